// SPDX-License-Identifier: MIT
// Reading what other programs made: every access is checked, nothing is ever mapped (a file that its owner truncates
// under a mapping kills the reader with SIGBUS; under pread it only reads short).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace laggard::identify {

using Bytes = std::vector<std::byte>;

// An ELF file's bytes by file offset, wherever they come from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // All of `out`, from `offset` on; false where one byte of it cannot be had.
  virtual bool read(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

class FileBytes final : public ByteSource {
 public:
  explicit FileBytes(Fd file) : file_(std::move(file)) {}
  bool read(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  Fd file_;
};

// The parts of a file that were found in a process's memory.
class MemoryBytes final : public ByteSource {
 public:
  struct Part {
    std::uint64_t offset;  // of the first byte in the file
    Bytes bytes;
  };
  explicit MemoryBytes(std::vector<Part> parts) : parts_(std::move(parts)) {}
  bool read(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  std::vector<Part> parts_;
};

// A little-endian reader over bytes in memory. Past the end it gives zeroes, and ok() is false from then on.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes, std::uint64_t at = 0) : bytes_(bytes) { skip(at); }

  template <class T>
  T take()
  {
    static_assert(std::is_integral_v<T>);
    T value{};
    if (bytes_.size() - at_ < sizeof value) {
      fail();
      return T{};
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::uint64_t take_unsigned(std::size_t bytes);  // 1, 2, 4 or 8; anything else fails
  std::uint64_t uleb();
  std::int64_t sleb();
  std::string_view text();  // up to its NUL, which is consumed too
  void skip(std::uint64_t bytes)
  {
    if (bytes > bytes_.size() - at_)
      fail();
    else
      at_ += static_cast<std::size_t>(bytes);
  }
  std::size_t at() const { return at_; }
  bool at_end() const { return at_ == bytes_.size(); }
  bool ok() const { return ok_; }

 private:
  void fail()
  {
    ok_ = false;
    at_ = bytes_.size();
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

// The NUL-terminated text at `offset` of a string table; empty where there is none.
std::string_view text_at(std::span<const std::byte> table, std::uint64_t offset);

}  // namespace laggard::identify
