// Sealing and opening of shards, step by step as lib/format/shard.ts has them.
#include "shard.h"

#include "cipher.h"

#include <algorithm>
#include <cstring>

namespace seal {

constexpr uint8_t shard_version = 1, shard_kind = 3;
// XChaCha20 counts blocks of 64 bytes, so a piece can be opened by itself.
constexpr uint64_t blocks_per_piece = piece_bytes / 64;

Shard::Shard(const uint8_t *partnership, const uint8_t *context, uint8_t code, uint8_t index, size_t element_bytes)
    : size_(element_bytes), header_{shard_version, shard_kind, code, index} {
  write32(header_ + 4, static_cast<uint32_t>(element_bytes));
  keyedHash(partnership, "kith shard key", {context, shard_context_bytes}, {header_, header_bytes}, key_);
  keyedHash(key_, "kith shard nonce", {nullptr, 0}, {nullptr, 0}, nonce_);
}

Bytes Shard::pieceOf(const uint8_t *bytes, size_t piece) const {
  size_t from = piece * piece_bytes;
  return {bytes + from, std::min(piece_bytes, size_ - from)};
}

Shard::TagKey::TagKey(const uint8_t *shard, size_t piece) {
  uint8_t number[4];
  write32(number, static_cast<uint32_t>(piece));
  keyedHash(shard, "kith shard piece", {number, sizeof number}, {nullptr, 0}, bytes);
}

void Shard::seal(const uint8_t *element, uint8_t *out) const {
  memcpy(out, header_, header_bytes);
  memcpy(out + header_bytes, nonce_, nonce_bytes);
  auto *cipher = out + header_bytes + nonce_bytes;
  auto *tags = cipher + size_;
  Stream stream(nonce_, key_);
  for (size_t piece = 0; piece < piecesOf(size_); piece++)
    stream.part(pieceOf(element, piece), static_cast<uint32_t>(piece * blocks_per_piece), TagKey(key_, piece).bytes,
                cipher + piece * piece_bytes, tags + piece * piece_tag_bytes);
}

bool Shard::openPiece(size_t piece, Bytes cipher, const uint8_t *tag_of_it, uint8_t *out) const {
  if (piece >= piecesOf(size_) || cipher.size != pieceOf(nullptr, piece).size) return false;
  uint8_t wanted[piece_tag_bytes];
  crypto_onetimeauth(wanted, cipher.data, cipher.size, TagKey(key_, piece).bytes);
  if (sodium_memcmp(wanted, tag_of_it, piece_tag_bytes) != 0) return false;
  crypto_stream_xchacha20_xor_ic(out, cipher.data, cipher.size, nonce_, piece * blocks_per_piece, key_);
  return true;
}

bool Shard::open(Bytes shard, uint8_t *element) const {
  if (shard.size != shardBytes(size_) || memcmp(shard.data, header_, header_bytes) != 0 ||
      memcmp(shard.data + header_bytes, nonce_, nonce_bytes) != 0)
    return false;
  const auto *cipher = shard.data + header_bytes + nonce_bytes, *tags = cipher + size_;
  for (size_t piece = 0; piece < piecesOf(size_); piece++)
    if (!openPiece(piece, pieceOf(cipher, piece), tags + piece * piece_tag_bytes, element + piece * piece_bytes)) return false;
  return true;
}

}  // namespace seal
