// Chunks and packs of a portion, sealed; the rules are those of lib/store/portion.ts.
#include "portion.h"
#include "hashes.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

namespace seal {

// So many bytes of small files share one block (docs/benchmarks.md).
constexpr uint32_t pack_bytes = 256 * 1024;
constexpr uint8_t chunk_extent = 1, part_extent = 3;

static std::string_view idOf(const uint8_t *key_and_id) {
  return {reinterpret_cast<const char *>(key_and_id + key_bytes), hash_bytes};
}

// A chunk to be sealed; `row` gets its name and its sealed length u32.
struct Piece {
  Bytes plain;
  const uint8_t *key_and_id;
  uint8_t *row;
};

static Sealed sealPieces(Sealer &sealer, const std::vector<Piece> &pieces, int level, uint8_t *out, uint8_t *ids) {
  // By id, the record that is sealed for all that are equal.
  std::unordered_map<std::string_view, const uint8_t *> records;
  std::vector<Hashing> names;
  std::vector<const uint8_t *> record_of;
  size_t at = 0;
  for (const auto &[plain, key_and_id, row] : pieces) {
    auto [twin, first] = records.try_emplace(idOf(key_and_id), out + at);
    record_of.push_back(twin->second);
    if (!first) continue;
    size_t size = sealer.record(key_and_id, plain, level, out + at);
    names.push_back({{out + at + record_header_bytes, size - record_header_bytes}, out + at + 4});
    memcpy(ids + (names.size() - 1) * hash_bytes, key_and_id + key_bytes, hash_bytes);
    at += size;
  }
  hashMany("kith block", nullptr, names);
  // Name and length, as the record has them behind its magic.
  for (size_t i = 0; i < pieces.size(); i++) memcpy(pieces[i].row, record_of[i] + 4, row_bytes);
  return {names.size(), at};
}

void Portion::begin(uint32_t i) {
  unit_of_[i] = static_cast<uint32_t>(units_.size());
  units_.push_back({chunks_[i].start, chunks_[i].end, keyOf(i), {i}, {}});
}

void Portion::plan(const uint8_t *convergence) {
  unit_of_.assign(chunks_.size(), known);
  offsets_.assign(chunks_.size(), 0);
  std::unordered_map<std::string_view, uint32_t> seen;
  // The unit to which files are added, or `known`.
  uint32_t pack = known;
  for (uint32_t i = 0; i < chunks_.size(); i++) {
    if (read32(rows_ + i * row_bytes + hash_bytes) != 0) continue;
    if (!chunks_[i].is_file) {
      begin(i);
      // Its bytes lie behind the pack: nothing may be moved over them.
      pack = known;
      continue;
    }
    auto [twin, first] = seen.try_emplace(idOf(keyOf(i)), i);
    if (!first) {
      unit_of_[i] = unit_of_[twin->second];
      offsets_[i] = offsets_[twin->second];
      continue;
    }
    if (pack == known || units_[pack].bytes() + bytesOf(i) > pack_bytes) {
      begin(i);
      pack = unit_of_[i];
      continue;
    }
    auto &unit = units_[pack];
    memmove(data_ + unit.end, data_ + chunks_[i].start, bytesOf(i));
    unit_of_[i] = pack;
    offsets_[i] = unit.bytes();
    unit.end += bytesOf(i);
    unit.chunks.push_back(i);
  }
  makeKeys(convergence);
}

// Those of packs are made, the others are the keys of their one chunk.
void Portion::makeKeys(const uint8_t *convergence) {
  size_t packs = 0;
  for (const auto &unit : units_) packs += unit.isPack();
  pack_keys_.resize(packs * key_and_id_bytes);
  std::vector<Hashing> plain, key;
  auto *at = pack_keys_.data();
  for (auto &unit : units_) {
    if (!unit.isPack()) continue;
    plain.push_back({{data_ + unit.start, unit.bytes()}, at});
    key.push_back({{at, key_bytes}, at + key_bytes});
    unit.key_and_id = at;
    at += key_and_id_bytes;
  }
  hashMany("kith chunk key", convergence, plain);
  hashMany("kith chunk id", nullptr, key);
}

Sealed Portion::seal(Sealer &sealer, int level, uint8_t *out, uint8_t *ids) {
  std::vector<Piece> pieces;
  for (auto &unit : units_) pieces.push_back({{data_ + unit.start, unit.bytes()}, unit.key_and_id, unit.row});
  return sealPieces(sealer, pieces, level, out, ids);
}

static uint8_t *put(uint8_t *out, const uint8_t *bytes, size_t size) {
  memcpy(out, bytes, size);
  return out + size;
}

static uint8_t *put32(uint8_t *out, uint32_t value) {
  write32(out, value);
  return out + 4;
}

void Portion::writeExtents(uint8_t *out) const {
  for (uint32_t i = 0; i < chunks_.size(); i++) writeExtent(i, out + i * part_extent_bytes);
}

void Portion::writeExtent(uint32_t i, uint8_t *out) const {
  const auto *row = rows_ + i * row_bytes, *key = keyOf(i);
  uint32_t plain_bytes = bytesOf(i), offset = offsets_[i];
  bool is_part = false;
  if (unit_of_[i] != known) {
    const auto &unit = units_[unit_of_[i]];
    row = unit.row;
    key = unit.key_and_id;
    plain_bytes = unit.bytes();
    is_part = unit.isPack();
  } else {
    const auto *pack_row = rows_ + chunks_.size() * row_bytes + i * pack_row_bytes;
    is_part = chunks_[i].is_file && read32(pack_row) != 0;
    if (is_part) {
      plain_bytes = read32(pack_row);
      key = pack_row + 4;
      offset = read32(pack_row + 4 + key_bytes);
    }
  }
  *out++ = is_part ? part_extent : chunk_extent;
  out = put(put(out, row, hash_bytes), key, key_bytes);
  out = put32(put32(out, plain_bytes), read32(row + hash_bytes));
  if (is_part) put32(put32(out, offset), bytesOf(i));
}

static uint8_t *put24(uint8_t *out, uint32_t value) {
  for (int i = 0; i < 3; i++) *out++ = static_cast<uint8_t>(value >> (8 * i));
  return out;
}

uint8_t *Portion::writePacks(uint8_t *out) const {
  std::vector<uint8_t *> part_rows;
  for (const auto &unit : units_) {
    if (!unit.isPack()) continue;
    out = put(put(out, unit.row, hash_bytes), unit.key_and_id, key_bytes);
    out = put32(put32(out, unit.bytes()), read32(unit.row + hash_bytes));
    out = put32(out, static_cast<uint32_t>(unit.chunks.size()));
    for (auto i : unit.chunks) {
      part_rows.push_back(out);
      out = put(put(out, keyOf(i) + key_bytes, part_id_bytes), unit.row, 8);
      out = put24(put24(out, offsets_[i]), bytesOf(i)) + 4;
    }
  }
  std::vector<uint8_t> checks(part_rows.size() * hash_bytes);
  std::vector<Hashing> messages;
  for (size_t i = 0; i < part_rows.size(); i++)
    messages.push_back({{part_rows[i], part_row_bytes - 4}, checks.data() + i * hash_bytes});
  hashMany("kith part row", nullptr, messages);
  for (size_t i = 0; i < part_rows.size(); i++)
    memcpy(part_rows[i] + part_row_bytes - 4, checks.data() + i * hash_bytes, 4);
  return out;
}

}  // namespace seal
