// The bridge's frames and the integers in them: writing and bounded reading. Layouts: bridge.cc.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

static_assert(std::endian::native == std::endian::little, "frames are little endian");

class FrameWriter {
 public:
  std::vector<uint8_t> bytes;

  template <typename Integer>
  void integer(Integer value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
  }
  // u16 length, bytes; at most 65,535.
  void text(std::string_view value) {
    integer(uint16_t(value.size()));
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
};

// Reads past the end give zeros and clear ok().
class FrameReader {
 public:
  FrameReader(const uint8_t* bytes, size_t length) : at_(bytes), left_(length) {}

  template <typename Integer>
  Integer integer() {
    Integer value{};
    if (const uint8_t* from = take(sizeof value)) std::memcpy(&value, from, sizeof value);
    return value;
  }
  std::string text() {
    const size_t length = integer<uint16_t>();
    const uint8_t* from = take(length);
    return from ? std::string(reinterpret_cast<const char*>(from), length) : std::string();
  }
  std::vector<uint8_t> blob(size_t length) {
    const uint8_t* from = take(length);
    return from ? std::vector<uint8_t>(from, from + length) : std::vector<uint8_t>();
  }
  bool ok() const { return ok_; }
  bool atEnd() const { return ok_ && left_ == 0; }

 private:
  const uint8_t* take(size_t length) {
    if (length > left_) {
      ok_ = false;
      left_ = 0;
      return nullptr;
    }
    const uint8_t* from = at_;
    at_ += length;
    left_ -= length;
    return from;
  }

  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};
