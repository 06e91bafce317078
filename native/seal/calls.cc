// The addon behind lib/format/seal.ts and shard.ts: single blocks, batches that make no JavaScript object for a chunk, and
// shards. Calls are synchronous, but for sealShards; each thread that loads the addon has a Sealer of its own.
#include "../posix/work.h"
#include "hashes.h"
#include "shard.h"

#include <string_view>
#include <unordered_map>

namespace seal {

using posix::BadArgument;
using posix::Call;
using posix::check;

// A row of an answer (lib/store/seal-messages.ts): name, sealed length u32; 0 where the chunk is not known.
constexpr size_t row_bytes = hash_bytes + 4;
constexpr size_t key_and_id_bytes = key_bytes + hash_bytes;

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

 private:
  struct Pair {
    uint32_t start, end;
  };
  Pair at(size_t i) const {
    Pair pair;
    memcpy(&pair, pairs_.data + i * 8, sizeof pair);
    return pair;
  }
  Bytes pairs_, data_;
};

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

// sealChunks(data, ranges, keys and ids, rows, level, out, ids): seals the chunks whose rows say 0, each once, fills their
// rows, and writes their records one after the other, and their ids. Returns [how many, bytes of the records].
static napi_value sealChunks(const Call &call) {
  Ranges ranges(call, 1, bytesOf(call, 0));
  const auto *keys = room(call, 2, ranges.count() * key_and_id_bytes);
  auto *rows = room(call, 3, ranges.count() * row_bytes);
  auto level = static_cast<int>(call.integer(4));
  auto &sealer = sealerOf(call);
  size_t most = 0;
  for (size_t i = 0; i < ranges.count(); i++) most += ranges.plain(i).size + overhead + record_header_bytes;
  auto *out = room(call, 5, most);
  auto *ids = room(call, 6, ranges.count() * hash_bytes);
  // By id, the number of the chunk that is sealed for all that are equal.
  std::unordered_map<std::string_view, size_t> sealed;
  std::vector<std::pair<size_t, const uint8_t *>> named;
  std::vector<Hashing> names;
  size_t at = 0;
  for (size_t i = 0; i < ranges.count(); i++) {
    auto *row = rows + i * row_bytes;
    if (read32(row + hash_bytes) != 0) continue;
    const auto *key = keys + i * key_and_id_bytes, *id = key + key_bytes;
    auto [twin, first] = sealed.try_emplace({reinterpret_cast<const char *>(id), hash_bytes}, named.size());
    if (!first) {
      named.push_back(named[twin->second]);
      named.back().first = i;
      continue;
    }
    size_t size = sealer.record(key, ranges.plain(i), level, out + at);
    names.push_back({{out + at + record_header_bytes, size - record_header_bytes}, out + at + 4});
    named.push_back({i, out + at});
    memcpy(ids + (sealed.size() - 1) * hash_bytes, id, hash_bytes);
    at += size;
  }
  hashMany("kith block", nullptr, names);
  for (auto [i, record] : named) {
    memcpy(rows + i * row_bytes, record + 4, hash_bytes);
    memcpy(rows + i * row_bytes + hash_bytes, record + 4 + hash_bytes, 4);
  }
  napi_value result;
  check(napi_create_array_with_length(call.env, 2, &result));
  check(napi_set_element(call.env, result, 0, posix::number(call.env, static_cast<int64_t>(sealed.size()))));
  check(napi_set_element(call.env, result, 1, posix::number(call.env, static_cast<int64_t>(at))));
  return result;
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

static Opened openInto(const Call &call, Kind wanted, Bytes sealed, napi_value &plain) {
  const auto *key = room(call, 1, key_bytes);
  uint8_t name[hash_bytes];
  hash("kith block", sealed, name);
  if (memcmp(name, room(call, 2, hash_bytes), hash_bytes) != 0) return Opened::not_the_block;
  Kind kind;
  bool compressed;
  uint32_t plain_bytes;
  if (!readHeader(sealed, kind, compressed, plain_bytes) || kind != wanted) return Opened::bad_header;
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
  posix::define<sealChunks>(call.env, exports, "sealChunks");
  posix::define<sealOne>(call.env, exports, "seal");
  posix::define<openOne>(call.env, exports, "open");
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
