// Compares all sides of native/seal/hashes.h that this processor has with libsodium's BLAKE2b. Prints what differs, what was
// skipped, and how much was compared.
#include "hashes.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

using namespace seal;

static size_t compared = 0, wrong = 0;

// splitmix64
static uint64_t random_state = 1;
static uint64_t random64() {
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// A message that ends with its memory, and begins at any alignment: one read beyond it is an error.
struct Message {
  std::unique_ptr<uint8_t[]> memory;
  size_t before, size;

  explicit Message(size_t bytes) : before(random64() % 64), size(bytes) {
    memory.reset(new uint8_t[before + size]);
    for (size_t i = 0; i < before + size; i++) memory[i] = static_cast<uint8_t>(random64());
  }
  const uint8_t *data() const { return memory.get() + before; }
};

// By libsodium alone, not by the code under test.
static std::string expected(const std::string &name_space, const uint8_t *key, const Message &message) {
  std::string whole(1, static_cast<char>(name_space.size())), out(hash_bytes, '\0');
  whole += name_space;
  whole.append(reinterpret_cast<const char *>(message.data()), message.size);
  crypto_generichash(reinterpret_cast<uint8_t *>(out.data()), hash_bytes, reinterpret_cast<const uint8_t *>(whole.data()),
                     whole.size(), key, key ? key_bytes : 0);
  return out;
}

static void compare(Side side, const char *what, const std::vector<size_t> &sizes) {
  static const std::string name_spaces[] = {"kith block", "k", "kith chunk key", "kith a namespace of forty-nine characters, longest"};
  const auto &name_space = name_spaces[random64() % 4];
  uint8_t key[key_bytes];
  for (auto &byte : key) byte = static_cast<uint8_t>(random64());
  std::vector<Message> messages;
  for (auto size : sizes) messages.emplace_back(size);
  for (const uint8_t *used : {static_cast<const uint8_t *>(nullptr), static_cast<const uint8_t *>(key)}) {
    std::vector<uint8_t> out(sizes.size() * hash_bytes);
    std::vector<Hashing> hashings;
    for (size_t i = 0; i < sizes.size(); i++)
      hashings.push_back({{messages[i].data(), messages[i].size}, out.data() + i * hash_bytes});
    hashMany(name_space.c_str(), used, hashings, side);
    for (size_t i = 0; i < sizes.size(); i++) {
      compared++;
      if (memcmp(expected(name_space, used, messages[i]).data(), out.data() + i * hash_bytes, hash_bytes) == 0) continue;
      wrong++;
      printf("%s: message %zu of %zu, %zu bytes, differs\n", what, i, sizes.size(), sizes[i]);
    }
  }
}

static void compareAll(Side side, const char *what) {
  // All lengths up to four blocks, of all lanes the same and of each its own; any number of messages.
  for (size_t size = 0; size <= 520; size++) {
    compare(side, what, std::vector<size_t>(2 + size % 8, size));
    std::vector<size_t> sizes(size % 19);
    for (auto &one : sizes) one = (size + random64() % 300) % 521;
    compare(side, what, sizes);
  }
  for (size_t count = 0; count <= 34; count++) {
    compare(side, what, std::vector<size_t>(count, 1000 + count));
    std::vector<size_t> sizes(count);
    for (auto &one : sizes) one = random64() % 3 ? random64() % 5000 : 0;
    compare(side, what, sizes);
  }
  // One that outlasts all others, and the sizes of real ones.
  compare(side, what, {5, 131072, 7, 0, 1, 300, 12, 128});
  compare(side, what, {65536, 65537, 131072, 131071, 262144, 3, 1048576, 99, 66000});
}

int main() {
  if (sodium_init() < 0) return 1;
  const struct {
    Side side;
    const char *name;
  } sides[] = {{Side::libsodium, "libsodium"}, {Side::avx2, "AVX2"}, {Side::avx512, "AVX-512"}};
  for (const auto &[side, name] : sides) {
    if (side <= bestSide())
      compareAll(side, name);
    else
      printf("skipped: this processor has no %s\n", name);
  }
  printf("%zu wrong of %zu\n", wrong, compared);
  return wrong > 0;
}
