// Sealing and opening, step by step as lib/format/seal.ts has them.
#include "cipher.h"
#include "guess.h"

#include <cstring>
#include <new>

namespace seal {

// A frame alone costs about 12 bytes: shorter plaintexts are not worth a try.
constexpr size_t min_compress_bytes = 64;
constexpr uint8_t version = 1;
constexpr uint32_t record_magic = 0x4b4c424b;

// The hashed message is [length of the namespace u8][namespace][parts] (lib/format/hash.ts).
static void begin(crypto_generichash_state &state, const char *name_space, const uint8_t *key) {
  auto length = static_cast<uint8_t>(strlen(name_space));
  crypto_generichash_init(&state, key, key ? key_bytes : 0, hash_bytes);
  crypto_generichash_update(&state, &length, 1);
  crypto_generichash_update(&state, reinterpret_cast<const uint8_t *>(name_space), length);
}

void hash(const char *name_space, Bytes message, uint8_t *out) {
  crypto_generichash_state state;
  begin(state, name_space, nullptr);
  crypto_generichash_update(&state, message.data, message.size);
  crypto_generichash_final(&state, out, hash_bytes);
}

void keyedHash(const uint8_t *key, const char *name_space, Bytes first, Bytes second, uint8_t *out) {
  crypto_generichash_state state;
  begin(state, name_space, key);
  crypto_generichash_update(&state, first.data, first.size);
  crypto_generichash_update(&state, second.data, second.size);
  crypto_generichash_final(&state, out, hash_bytes);
}

bool readHeader(Bytes sealed, Kind &kind, bool &compressed, uint32_t &plain_bytes) {
  const auto *at = sealed.data;
  if (sealed.size < overhead || sealed.size > max_plain_bytes + overhead) return false;
  if (at[0] != version || at[1] < 1 || at[1] > 2 || at[2] > 1 || at[3] != 0) return false;
  kind = static_cast<Kind>(at[1]);
  compressed = at[2] == 1;
  plain_bytes = read32(at + 4);
  size_t message = sealed.size - overhead;
  return plain_bytes <= max_plain_bytes && (compressed ? message < plain_bytes : message == plain_bytes);
}

Sealer::Sealer()
    : compressor_(ZSTD_createCCtx()),
      decompressor_(ZSTD_createDCtx()),
      scratch_(new uint8_t[ZSTD_COMPRESSBOUND(max_plain_bytes)]) {
  if (!compressor_ || !decompressor_) throw std::bad_alloc();
}

size_t Sealer::compress(Bytes plain, int level) {
  if (plain.size < min_compress_bytes || !mayCompress(plain)) return 0;
  size_t size = ZSTD_compressCCtx(compressor_.get(), scratch_.get(), ZSTD_COMPRESSBOUND(max_plain_bytes), plain.data,
                                  plain.size, level);
  return ZSTD_isError(size) || size >= plain.size ? 0 : size;
}

size_t Sealer::seal(Kind kind, const uint8_t *key, Bytes plain, int level, uint8_t *out) {
  size_t smaller = compress(plain, level);
  Bytes message = smaller ? Bytes{scratch_.get(), smaller} : plain;
  out[0] = version;
  out[1] = static_cast<uint8_t>(kind);
  out[2] = smaller ? 1 : 0;
  out[3] = 0;
  write32(out + 4, static_cast<uint32_t>(plain.size));
  uint8_t nonce[hash_bytes] = {};
  // A stored chunk's message is the plaintext that its key was made from: no other has this key.
  if (kind == Kind::node || smaller)
    keyedHash(key, kind == Kind::chunk ? "kith chunk nonce" : "kith node nonce", {out, header_bytes}, message, nonce);
  memcpy(out + header_bytes, nonce, nonce_bytes);
  encrypt(message, out, nonce, key, out + header_bytes + nonce_bytes);
  return message.size + overhead;
}

size_t Sealer::record(const uint8_t *key, Bytes plain, int level, uint8_t *out) {
  size_t size = seal(Kind::chunk, key, plain, level, out + record_header_bytes);
  write32(out, record_magic);
  write32(out + 4 + hash_bytes, static_cast<uint32_t>(size));
  return record_header_bytes + size;
}

Opened Sealer::open(const uint8_t *key, Bytes sealed, uint8_t *plain) {
  Kind kind;
  bool compressed;
  uint32_t plain_bytes;
  if (!readHeader(sealed, kind, compressed, plain_bytes)) return Opened::bad_header;
  const auto *nonce = sealed.data + header_bytes, *body = nonce + nonce_bytes;
  size_t body_bytes = sealed.size - header_bytes - nonce_bytes;
  auto *message = compressed ? scratch_.get() : plain;
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(message, nullptr, nullptr, body, body_bytes, sealed.data, header_bytes,
                                                 nonce, key) != 0)
    return Opened::wrong_key;
  if (!compressed) return Opened::whole;
  // Never writes beyond `plain_bytes`, whatever the frame claims.
  size_t size = ZSTD_decompressDCtx(decompressor_.get(), plain, plain_bytes, message, sealed.size - overhead);
  if (ZSTD_isError(size)) return Opened::no_frame;
  return size == plain_bytes ? Opened::whole : Opened::frame_of_other_length;
}

}  // namespace seal
