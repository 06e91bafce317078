// The addon behind lib/format/seal.ts and shard.ts: single blocks, batches that make no JavaScript object for a chunk, and
// shards. Calls are synchronous, but for sealShards and openChunks; each thread that loads the addon has a Sealer of its own.
#include "../posix/work.h"
#include "hashes.h"
#include "portion.h"
#include "shard.h"

namespace seal {

using posix::BadArgument;
using posix::Call;
using posix::check;

static Sealer &sealerOf(const Call &call) {
  void *data = nullptr;
  check(napi_get_instance_data(call.env, &data));
  return *static_cast<Sealer *>(data);
}

static Bytes bytesOf(const Call &call, size_t index) {
  call.memory(index, 0);
  void *data = nullptr;
  size_t size = 0;
  check(napi_get_buffer_info(call.env, call.values[index], &data, &size));
  return {static_cast<const uint8_t *>(data), size};
}

static uint8_t *room(const Call &call, size_t index, size_t size) {
  return static_cast<uint8_t *>(call.memory(index, size));
}

// Pairs of u32 in the machine's order, start and end of each: all within `data`, none empty or longer than a block.
class Ranges {
 public:
  Ranges(const Call &call, size_t index, Bytes data) : pairs_(bytesOf(call, index)), data_(data) {
    if (pairs_.size % 8 != 0) throw BadArgument{"seal: ranges are pairs of u32"};
    for (size_t i = 0; i < count(); i++) {
      auto [start, end] = at(i);
      if (start >= end || end > data.size || end - start > max_plain_bytes)
        throw BadArgument{"seal: a range has 1 byte to 1 MiB within the memory"};
    }
  }
  size_t count() const { return pairs_.size / 8; }
  Bytes plain(size_t i) const {
    auto [start, end] = at(i);
    return {data_.data + start, end - start};
  }
  // What the records of all of them take at most.
  size_t sealedBytes() const {
    size_t most = 0;
    for (size_t i = 0; i < count(); i++) most += plain(i).size + overhead + record_header_bytes;
    return most;
  }
  struct Pair {
    uint32_t start, end;
  };
  Pair at(size_t i) const {
    Pair pair;
    memcpy(&pair, pairs_.data + i * 8, sizeof pair);
    return pair;
  }

 private:
  Bytes pairs_, data_;
};

static napi_value numbers(const Call &call, std::initializer_list<size_t> values) {
  napi_value result;
  check(napi_create_array_with_length(call.env, values.size(), &result));
  uint32_t at = 0;
  for (auto value : values) check(napi_set_element(call.env, result, at++, posix::number(call.env, static_cast<int64_t>(value))));
  return result;
}

// keys(convergence, data, ranges, out): the key and the id of each chunk
static napi_value keys(const Call &call) {
  const auto *convergence = room(call, 0, key_bytes);
  Ranges ranges(call, 2, bytesOf(call, 1));
  auto *out = room(call, 3, ranges.count() * key_and_id_bytes);
  std::vector<Hashing> plain, key;
  for (size_t i = 0; i < ranges.count(); i++) {
    auto *at = out + i * key_and_id_bytes;
    plain.push_back({ranges.plain(i), at});
    key.push_back({{at, key_bytes}, at + key_bytes});
  }
  hashMany("kith chunk key", convergence, plain);
  hashMany("kith chunk id", nullptr, key);
  return posix::undefined(call.env);
}

// sealPortion(convergence, data, ranges, files, keys and ids, answer, level, out, ids, packs, extents): `files` has a byte for
// each chunk, 1 for a small file. Seals the chunks whose rows say 0, each content once: moves the bytes of files, writes records
// one after the other and their ids, packs with their rows, and for each chunk its extent. Returns [how many were sealed, bytes
// of the records, bytes of the packs].
static napi_value sealPortion(const Call &call) {
  Ranges ranges(call, 2, bytesOf(call, 1));
  size_t count = ranges.count();
  const auto *files = room(call, 3, count);
  std::vector<PortionChunk> chunks;
  for (size_t i = 0, end = 0; i < count; i++) {
    auto [start, to] = ranges.at(i);
    if (start < end) throw BadArgument{"seal: the chunks of a portion follow one another"};
    chunks.push_back({start, to, files[i] != 0});
    end = to;
  }
  const auto *keys = room(call, 4, count * key_and_id_bytes), *rows = room(call, 5, count * (row_bytes + pack_row_bytes));
  auto *out = room(call, 7, ranges.sealedBytes());
  auto *ids = room(call, 8, count * hash_bytes);
  auto *packs = room(call, 9, count * (pack_head_bytes + part_row_bytes)), *extents = room(call, 10, count * part_extent_bytes);
  Portion portion(room(call, 1, 0), std::move(chunks), keys, rows);
  portion.plan(room(call, 0, key_bytes));
  auto [sealed, bytes] = portion.seal(sealerOf(call), static_cast<int>(call.integer(6)), out, ids);
  portion.writeExtents(extents);
  return numbers(call, {sealed, bytes, static_cast<size_t>(portion.writePacks(packs) - packs)});
}

static Kind kindArgument(const Call &call, size_t index) {
  auto kind = call.integer(index);
  if (kind != 1 && kind != 2) throw BadArgument{"seal: a block is a chunk or a node"};
  return static_cast<Kind>(kind);
}

// seal(kind, key, plain, level, out, name): the length of the block in `out`
static napi_value sealOne(const Call &call) {
  const auto *key = room(call, 1, key_bytes);
  Bytes plain = bytesOf(call, 2);
  if (plain.size == 0 || plain.size > max_plain_bytes) throw BadArgument{"seal: a block holds 1 byte to 1 MiB"};
  auto *out = room(call, 4, plain.size + overhead);
  auto *name = room(call, 5, hash_bytes);
  auto size = sealerOf(call).seal(kindArgument(call, 0), key, plain, static_cast<int>(call.integer(3)), out);
  hash("kith block", {out, size}, name);
  return posix::number(call.env, static_cast<int64_t>(size));
}

// Whether `sealed` is the block of that name, and of that kind by its header; the length of its plaintext.
static Opened identify(Kind wanted, const uint8_t *name, Bytes sealed, uint32_t &plain_bytes) {
  uint8_t found[hash_bytes];
  hash("kith block", sealed, found);
  if (memcmp(found, name, hash_bytes) != 0) return Opened::not_the_block;
  Kind kind;
  bool compressed;
  return readHeader(sealed, kind, compressed, plain_bytes) && kind == wanted ? Opened::whole : Opened::bad_header;
}

static Opened openInto(const Call &call, Kind wanted, Bytes sealed, napi_value &plain) {
  const auto *key = room(call, 1, key_bytes);
  uint32_t plain_bytes;
  auto identified = identify(wanted, room(call, 2, hash_bytes), sealed, plain_bytes);
  if (identified != Opened::whole) return identified;
  auto expected = call.integer(4);
  if (expected >= 0 && expected != plain_bytes) return Opened::other_length;
  void *memory = nullptr;
  check(napi_create_buffer(call.env, plain_bytes, &memory, &plain));
  return sealerOf(call).open(key, sealed, static_cast<uint8_t *>(memory));
}

// open(kind, key, name, sealed, plainBytes | -1): the plaintext, or the number of an Opened
static napi_value openOne(const Call &call) {
  napi_value plain = nullptr;
  auto opened = openInto(call, kindArgument(call, 0), bytesOf(call, 3), plain);
  return opened == Opened::whole ? plain : posix::number(call.env, static_cast<int64_t>(opened));
}

static Bytes bytesAt(const Call &call, size_t index, uint32_t at, napi_value &value) {
  check(napi_get_element(call.env, call.values[index], at, &value));
  void *data = nullptr;
  size_t size = 0;
  check(napi_get_buffer_info(call.env, value, &data, &size));
  return {static_cast<const uint8_t *>(data), size};
}

struct Opening {
  const uint8_t *key, *name;
  Bytes sealed, plain;
  uint8_t *fault;
};

static Opened openChunk(const Opening &opening) {
  // One for each thread of the pool.
  static thread_local Sealer sealer;
  uint32_t plain_bytes;
  auto identified = identify(Kind::chunk, opening.name, opening.sealed, plain_bytes);
  if (identified != Opened::whole) return identified;
  if (plain_bytes != opening.plain.size) return Opened::other_length;
  return sealer.open(opening.key, opening.sealed, const_cast<uint8_t *>(opening.plain.data));
}

// openChunks(keys and names, sealed chunks, plaintexts, faults): a promise; off the event loop. Of each chunk its key and name
// of 32 bytes, its block, a Buffer as long as its plaintext, and a byte that becomes the number of an Opened; the lists must not
// change meanwhile
static napi_value openChunks(const Call &call) {
  auto faults = bytesOf(call, 3);
  const auto *keys = room(call, 0, faults.size * (key_bytes + hash_bytes));
  std::vector<Opening> openings;
  for (size_t i = 0; i < faults.size; i++) {
    napi_value sealed_value, plain_value;
    auto sealed = bytesAt(call, 1, static_cast<uint32_t>(i), sealed_value);
    auto plain = bytesAt(call, 2, static_cast<uint32_t>(i), plain_value);
    const auto *key = keys + i * (key_bytes + hash_bytes);
    openings.push_back({key, key + key_bytes, sealed, plain, const_cast<uint8_t *>(faults.data) + i});
  }
  // The lists keep what is in them.
  return posix::Work::start(call.env, {call.values, call.values + 4}, [openings] {
    for (const auto &opening : openings) *opening.fault = static_cast<uint8_t>(openChunk(opening));
  });
}

// names(sealed blocks, out): the name of each, one after the other
static napi_value names(const Call &call) {
  uint32_t count = 0;
  if (napi_get_array_length(call.env, call.values[0], &count) != napi_ok) throw BadArgument{"seal: an array is expected"};
  auto *out = room(call, 1, count * hash_bytes);
  std::vector<Hashing> blocks;
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    blocks.push_back({bytesAt(call, 0, i, value), out + i * hash_bytes});
  }
  hashMany("kith block", nullptr, blocks);
  return posix::undefined(call.env);
}

static uint8_t byteArgument(const Call &call, size_t index) {
  auto value = call.integer(index);
  if (value < 0 || value > 255) throw BadArgument{"seal: a byte is expected"};
  return static_cast<uint8_t>(value);
}

static void checkElement(size_t bytes) {
  if (bytes == 0 || bytes > max_element_bytes) throw BadArgument{"seal: an element has 1 byte to 1020 KiB"};
}

struct Sealing {
  Shard shard;
  Bytes element;
  uint8_t *out, *name;
};

// sealShards(keys, contexts, code, indexes, elements, outs, names): a promise; off the event loop. Keys, contexts, indexes (a
// byte each) and names lie one after the other.
static napi_value sealShards(const Call &call) {
  auto indexes = bytesOf(call, 3);
  const auto *keys = room(call, 0, indexes.size * key_bytes), *contexts = room(call, 1, indexes.size * shard_context_bytes);
  auto *names = room(call, 6, indexes.size * hash_bytes);
  std::vector<napi_value> kept{call.values[6]};
  std::vector<Sealing> sealings;
  for (size_t i = 0; i < indexes.size; i++) {
    napi_value element_value, out_value;
    auto element = bytesAt(call, 4, static_cast<uint32_t>(i), element_value);
    auto out = bytesAt(call, 5, static_cast<uint32_t>(i), out_value);
    checkElement(element.size);
    if (out.size < shardBytes(element.size)) throw BadArgument{"seal: no room for a shard"};
    Shard shard{keys + i * key_bytes, contexts + i * shard_context_bytes, byteArgument(call, 2), indexes.data[i], element.size};
    sealings.push_back({shard, element, const_cast<uint8_t *>(out.data), names + i * hash_bytes});
    kept.push_back(element_value);
    kept.push_back(out_value);
  }
  return posix::Work::start(call.env, kept, [sealings] {
    std::vector<Hashing> messages;
    for (const auto &[shard, element, out, name] : sealings) {
      shard.seal(element.data, out);
      messages.push_back({{out, shardBytes(element.size)}, name});
    }
    hashMany("kith block", nullptr, messages);
  });
}

// Calls about one shard begin with these: key, context, code, index.
static Shard shardOf(const Call &call, size_t element_bytes) {
  checkElement(element_bytes);
  return {room(call, 0, key_bytes), room(call, 1, shard_context_bytes), byteArgument(call, 2), byteArgument(call, 3),
          element_bytes};
}

// openShard(key, context, code, index, shard, out): whether it is that shard, whole, of an element as long as `out`
static napi_value openShard(const Call &call) {
  Bytes out = bytesOf(call, 5);
  return posix::boolean(call.env, shardOf(call, out.size).open(bytesOf(call, 4), room(call, 5, out.size)));
}

// openPiece(key, context, code, index, [element bytes, piece] as u32, ciphertext and tag, out): the same of one piece
static napi_value openPiece(const Call &call) {
  const auto *numbers = room(call, 4, 8);
  Bytes sealed = bytesOf(call, 5);
  if (sealed.size <= piece_tag_bytes) return posix::boolean(call.env, false);
  Bytes cipher{sealed.data, sealed.size - piece_tag_bytes};
  return posix::boolean(call.env, shardOf(call, read32(numbers))
                                      .openPiece(read32(numbers + 4), cipher, cipher.data + cipher.size,
                                                 room(call, 6, cipher.size)));
}

static void forget(napi_env, void *sealer, void *) { delete static_cast<Sealer *>(sealer); }

static napi_value start(const Call &call) {
  if (sodium_init() < 0) throw BadArgument{"seal: libsodium does not start"};
  auto sealer = std::make_unique<Sealer>();
  check(napi_set_instance_data(call.env, sealer.get(), forget, nullptr));
  sealer.release();
  napi_value exports;
  check(napi_create_object(call.env, &exports));
  posix::define<keys>(call.env, exports, "keys");
  posix::define<sealPortion>(call.env, exports, "sealPortion");
  posix::define<sealOne>(call.env, exports, "seal");
  posix::define<openOne>(call.env, exports, "open");
  posix::define<openChunks>(call.env, exports, "openChunks");
  posix::define<names>(call.env, exports, "names");
  posix::define<sealShards>(call.env, exports, "sealShards");
  posix::define<openShard>(call.env, exports, "openShard");
  posix::define<openPiece>(call.env, exports, "openPiece");
  return exports;
}

}  // namespace seal

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value) {
  napi_value function, receiver, exports;
  if (napi_create_function(env, "start", NAPI_AUTO_LENGTH, posix::wrapped<seal::start>, nullptr, &function) != napi_ok ||
      napi_get_global(env, &receiver) != napi_ok ||
      napi_call_function(env, receiver, function, 0, nullptr, &exports) != napi_ok)
    return nullptr;
  return exports;
}
