// Sealing and opening of blocks: the layout of lib/format/seal.ts, and the records of lib/blocks/segments.ts around them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <sodium.h>
#include <zstd.h>

namespace seal {

constexpr size_t hash_bytes = 32;
constexpr size_t key_bytes = 32;
constexpr size_t max_plain_bytes = 1024 * 1024;
// Version, kind, compression, 0; length of the plaintext u32.
constexpr size_t header_bytes = 8;
constexpr size_t nonce_bytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr size_t overhead = header_bytes + nonce_bytes + crypto_aead_xchacha20poly1305_ietf_ABYTES;
static_assert(overhead == 48);
// Of a record in a segment: magic u32, name, sealed length u32.
constexpr size_t record_header_bytes = 4 + hash_bytes + 4;

enum class Kind : uint8_t { chunk = 1, node = 2 };

enum class Opened { whole, not_the_block, bad_header, other_length, wrong_key, no_frame, frame_of_other_length };

struct Bytes {
  const uint8_t *data;
  size_t size;
};

void hash(const char *name_space, Bytes message, uint8_t *out);
void keyedHash(const uint8_t *key, const char *name_space, Bytes first, Bytes second, uint8_t *out);

// What a header says, when header and length fit the layout.
bool readHeader(Bytes sealed, Kind &kind, bool &compressed, uint32_t &plain_bytes);

// One for each thread: its (de)compressor and its scratch memory are used again and again.
class Sealer {
 public:
  Sealer();
  // Writes the sealed block, plain.size + overhead bytes at most, and returns its length; its name is the hash of it.
  size_t seal(Kind kind, const uint8_t *key, Bytes plain, int level, uint8_t *out);
  // The same with the header of a segment's record before it, where room is left for the name: plain.size + overhead +
  // record_header_bytes at most.
  size_t record(const uint8_t *key, Bytes plain, int level, uint8_t *out);
  // Opens into `plain`, which has the length that the header of `sealed` tells.
  Opened open(const uint8_t *key, Bytes sealed, uint8_t *plain);

 private:
  // A smaller zstd frame of `plain` in `scratch_`, or 0.
  size_t compress(Bytes plain, int level);

  struct Free {
    void operator()(ZSTD_CCtx *context) const { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx *context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> compressor_;
  std::unique_ptr<ZSTD_DCtx, Free> decompressor_;
  std::unique_ptr<uint8_t[]> scratch_;
};

inline uint32_t read32(const uint8_t *at) {
  return at[0] | uint32_t{at[1]} << 8 | uint32_t{at[2]} << 16 | uint32_t{at[3]} << 24;
}

inline void write32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = static_cast<uint8_t>(value >> (8 * i));
}

}  // namespace seal
