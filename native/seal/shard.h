// Shards: the outer seal of lib/format/shard.ts, which has the layout.
#pragma once

#include "seal.h"

namespace seal {

constexpr size_t piece_bytes = 64 * 1024;
constexpr size_t piece_tag_bytes = crypto_onetimeauth_BYTES;
// Owner, partner, stripe.
constexpr size_t shard_context_bytes = 3 * hash_bytes;
// So that a shard is a block, and travels as one.
constexpr size_t max_element_bytes = max_plain_bytes - 4096;

inline size_t piecesOf(size_t element) { return (element + piece_bytes - 1) / piece_bytes; }
inline size_t shardBytes(size_t element) {
  return header_bytes + nonce_bytes + element + piecesOf(element) * piece_tag_bytes;
}

// Which shard it is: what its key is made from, beside the key of the partnership.
class Shard {
 public:
  Shard(const uint8_t *partnership, const uint8_t *context, uint8_t code, uint8_t index, size_t element_bytes);
  ~Shard() { sodium_memzero(key_, sizeof key_); }
  // Writes shardBytes(element_bytes); the name is the hash of them.
  void seal(const uint8_t *element, uint8_t *out) const;
  // Whether this is the shard, whole; then the element is written.
  bool open(Bytes shard, uint8_t *element) const;
  // The same of one piece, its ciphertext and its tag.
  bool openPiece(size_t piece, Bytes cipher, const uint8_t *tag, uint8_t *out) const;

 private:
  struct TagKey {
    TagKey(const uint8_t *shard, size_t piece);
    ~TagKey() { sodium_memzero(bytes, sizeof bytes); }
    uint8_t bytes[crypto_onetimeauth_KEYBYTES];
    static_assert(sizeof bytes == hash_bytes);
  };
  Bytes pieceOf(const uint8_t *bytes, size_t piece) const;

  size_t size_;
  uint8_t header_[header_bytes];
  uint8_t key_[key_bytes];
  uint8_t nonce_[hash_bytes];  // the first nonce_bytes count
};

}  // namespace seal
