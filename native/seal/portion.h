// What a worker thread holds of files, sealed: chunks and packs of small files (lib/store/portion.ts has the rules).
#pragma once

#include "seal.h"

#include <vector>

namespace seal {

struct Sealed {
  size_t count, bytes;
};

// A row of an answer (lib/store/seal-messages.ts): name, sealed length u32; 0 where the chunk is not known.
constexpr size_t row_bytes = hash_bytes + 4;
constexpr size_t key_and_id_bytes = key_bytes + hash_bytes;

// Behind the rows of an answer, for each: plain length u32 of the pack, 0 for a chunk; its key, offset u32.
constexpr size_t pack_row_bytes = 4 + key_bytes + 4;
// Extents as lib/format/entry.ts has them; a chunk's has this length, a part's offset u32 and length u32 more.
constexpr size_t chunk_extent_bytes = 1 + hash_bytes + key_bytes + 8;
constexpr size_t part_extent_bytes = chunk_extent_bytes + 8;
// Rows of lib/store/parts.ts with their keys: id 16; pack 8, offset u24, length u24, check u32.
constexpr size_t part_id_bytes = 16, part_row_bytes = 34;
// A pack in a message, before its rows: name, key, plain length u32, sealed length u32, number of rows u32.
constexpr size_t pack_head_bytes = hash_bytes + key_bytes + 12;

struct PortionChunk {
  uint32_t start, end;
  bool is_file;
};

class Portion {
 public:
  // `rows` has the answer for all of the chunks: rows, then rows of packs.
  Portion(uint8_t *data, std::vector<PortionChunk> chunks, const uint8_t *keys, const uint8_t *rows)
      : data_(data), chunks_(std::move(chunks)), keys_(keys), rows_(rows) {}
  // Moves the files of each pack together, and makes the packs' keys.
  void plan(const uint8_t *convergence);
  // Afterwards: each content once, the records one after the other to `out` and their ids to `ids`.
  Sealed seal(Sealer &sealer, int level, uint8_t *out, uint8_t *ids);
  // Afterwards: an extent for each chunk, each in part_extent_bytes.
  void writeExtents(uint8_t *out) const;
  // Packs with their rows, in pack_head_bytes and part_row_bytes for each chunk at most. Returns the end.
  uint8_t *writePacks(uint8_t *out) const;

 private:
  // What becomes one block: a chunk, a small file by itself, or files together.
  struct Unit {
    uint32_t start, end;
    const uint8_t *key_and_id;
    std::vector<uint32_t> chunks;
    uint8_t row[row_bytes];
    uint32_t bytes() const { return end - start; }
    bool isPack() const { return chunks.size() > 1; }
  };
  static constexpr uint32_t known = UINT32_MAX;

  uint32_t bytesOf(uint32_t i) const { return chunks_[i].end - chunks_[i].start; }
  const uint8_t *keyOf(uint32_t i) const { return keys_ + i * key_and_id_bytes; }
  void begin(uint32_t i);
  void makeKeys(const uint8_t *convergence);
  void writeExtent(uint32_t i, uint8_t *out) const;

  uint8_t *data_;
  std::vector<PortionChunk> chunks_;
  const uint8_t *keys_, *rows_;
  std::vector<Unit> units_;
  // For each chunk its unit, or `known`, and where in it it begins.
  std::vector<uint32_t> unit_of_, offsets_;
  std::vector<uint8_t> pack_keys_;
};

}  // namespace seal
