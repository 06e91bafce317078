// Compares our ways of native/seal/cipher.h that this processor has with libsodium, and all with what RFC 8439 says. Prints what
// differs, what was skipped, and how much was compared.
#include "cipher.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

using namespace seal;

static size_t compared = 0, wrong = 0;
// The one that is compared.
static Way ours = Way::libsodium;
static const char *its_name = "";

static void same(const char *what, size_t size, const std::vector<uint8_t> &a, const std::vector<uint8_t> &b) {
  compared++;
  if (a == b) return;
  wrong++;
  printf("%s: %s of %zu bytes differs\n", its_name, what, size);
}

// splitmix64
static uint64_t random_state = 1;
static uint8_t randomByte() {
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return static_cast<uint8_t>(z >> 56);
}

static std::vector<uint8_t> randomBytes(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (auto &byte : bytes) byte = randomByte();
  return bytes;
}

// Memory that ends where what it holds ends, which begins at any alignment: one access beyond it is an error.
struct Room {
  std::unique_ptr<uint8_t[]> memory;
  size_t before, size;

  explicit Room(size_t bytes) : before(randomByte() % 64), size(bytes) { memory.reset(new uint8_t[before + size]); }
  explicit Room(const std::vector<uint8_t> &bytes) : Room(bytes.size()) {
    if (size) memcpy(data(), bytes.data(), size);
  }
  uint8_t *data() { return memory.get() + before; }
  std::vector<uint8_t> bytes() { return {data(), data() + size}; }
};

// Ciphertext and tag.
static std::vector<uint8_t> part(Way way, const std::vector<uint8_t> &plain, uint32_t block, const std::vector<uint8_t> &key,
                                 const std::vector<uint8_t> &nonce, const std::vector<uint8_t> &tag_key) {
  Room in(plain), out(plain.size() + 16);
  Stream(nonce.data(), key.data(), way).part({in.data(), in.size}, block, tag_key.data(), out.data(), out.data() + in.size);
  return out.bytes();
}

static std::vector<uint8_t> block(Way way, const std::vector<uint8_t> &plain, const std::vector<uint8_t> &header,
                                  const std::vector<uint8_t> &nonce, const std::vector<uint8_t> &key) {
  Room in(plain), out(plain.size() + 16);
  encrypt({in.data(), in.size}, header.data(), nonce.data(), key.data(), out.data(), way);
  return out.bytes();
}

static void compareSizes(size_t size) {
  auto plain = randomBytes(size), key = randomBytes(32), nonce = randomBytes(24), header = randomBytes(header_bytes);
  same("a block", size, block(Way::libsodium, plain, header, nonce, key), block(ours, plain, header, nonce, key));
  auto tag_key = randomBytes(32);
  for (uint32_t at : {0u, 1u, 1024u, 0xffffff00u - 20000u})
    same("a part", size, part(Way::libsodium, plain, at, key, nonce, tag_key), part(ours, plain, at, key, nonce, tag_key));
}

// The authenticator where its sums carry all the way, which random keys never reach: what is authenticated is chosen by
// encrypting its sum with the key stream.
static void compareCarries() {
  auto key = randomBytes(32), nonce = randomBytes(24);
  const uint8_t bytes[] = {0x00, 0x01, 0x02, 0x04, 0x7f, 0x80, 0xfb, 0xfc, 0xff};
  for (size_t round = 0; round < 20000; round++) {
    size_t size = 1 + (round * 7) % 2600;
    std::vector<uint8_t> zeros(size), tag_key(32), wanted(size), plain(size);
    for (size_t i = 0; i < 32; i++) tag_key[i] = round % 3 && i < 16 ? (i == 0) * bytes[round % 9] : bytes[randomByte() % 9];
    if (round % 5 == 0) memset(tag_key.data(), 0xff, 32);
    for (size_t i = 0; i < size; i++) wanted[i] = round % 2 || randomByte() % 16 == 0 ? bytes[randomByte() % 9] : 0xff;
    auto stream = part(Way::libsodium, zeros, 0, key, nonce, tag_key);
    for (size_t i = 0; i < size; i++) plain[i] = wanted[i] ^ stream[i];
    auto a = part(Way::libsodium, plain, 0, key, nonce, tag_key), b = part(ours, plain, 0, key, nonce, tag_key);
    same("a part with carries", size, a, b);
    if (memcmp(b.data(), wanted.data(), size) != 0) wrong++;
  }
}

// The edges of RFC 8439, A.3, 7 to 11: r, message, tag (s is 0).
static void compareVectors() {
  struct Vector {
    std::vector<uint8_t> r, message, tag;
  };
  auto filled = [](std::vector<uint8_t> begin, uint8_t rest = 0) {
    begin.resize((begin.size() + 15) / 16 * 16, rest);
    return begin;
  };
  auto joined = [](std::vector<std::vector<uint8_t>> parts) {
    std::vector<uint8_t> all;
    for (const auto &one : parts) all.insert(all.end(), one.begin(), one.end());
    return all;
  };
  const auto ones = filled({0xff}, 0xff), one = filled({1}), zero = filled({0});
  const Vector vectors[] = {
      {filled({2}), ones, filled({3})},
      {one, joined({ones, filled({0xf0}, 0xff), filled({0x11})}), filled({5})},
      {one, joined({ones, filled({0xfb, 0xfe}, 0xfe), filled({1}, 1)}), zero},
      {filled({2}), filled({0xfd}, 0xff), filled({0xfa}, 0xff)},
      {joined({{1, 0, 0, 0, 0, 0, 0, 0, 4}, std::vector<uint8_t>(7)}),
       joined({{0xe3, 0x35, 0x94, 0xd7, 0x50, 0x5e, 0x43, 0xb9}, std::vector<uint8_t>(8),
               {0x33, 0x94, 0xd7, 0x50, 0x5e, 0x43, 0x79, 0xcd, 1}, std::vector<uint8_t>(7), zero, one}),
       joined({{0x14, 0, 0, 0, 0, 0, 0, 0, 0x55}, std::vector<uint8_t>(7)})},
  };
  auto key = randomBytes(32), nonce = randomBytes(24);
  for (const auto &[r, message, tag] : vectors) {
    auto tag_key = joined({r, zero});
    auto stream = part(Way::libsodium, std::vector<uint8_t>(message.size()), 0, key, nonce, tag_key);
    std::vector<uint8_t> plain(message.size());
    for (size_t i = 0; i < plain.size(); i++) plain[i] = message[i] ^ stream[i];
    for (auto way : {Way::libsodium, ours})
      same("a vector of the RFC", message.size(), joined({message, tag}), part(way, plain, 0, key, nonce, tag_key));
  }
}

int main() {
  if (sodium_init() < 0) return 1;
  const struct {
    Way way;
    const char *name;
  } ways[] = {{Way::one_pass, "AVX2"}, {Way::broad, "AVX-512"}};
  for (const auto &[way, name] : ways) {
    if (way > bestWay()) {
      printf("skipped: this processor has no %s\n", name);
      continue;
    }
    ours = way;
    its_name = name;
    // AVX-512 takes strides of 1,024 bytes, of which the second is the first that is authenticated beside the next.
    for (size_t size = 0; size <= 3200; size++) compareSizes(size);
    for (size_t size : {65535u, 65536u, 65537u, 131072u, 1048575u, 1048576u}) compareSizes(size);
    compareCarries();
  }
  compareVectors();
  printf("%zu wrong of %zu\n", wrong, compared);
  return wrong > 0;
}
