// SPDX-License-Identifier: MIT
#include "identify/bytes.h"

#include <unistd.h>

#include <cerrno>
#include <limits>

namespace laggard::identify {

bool FileBytes::read(std::uint64_t offset, std::span<std::byte> out) const
{
  constexpr auto kLast = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (offset > kLast || out.size() > kLast - offset) return false;
  while (!out.empty()) {
    const ssize_t n = ::pread(file_.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    out = out.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return true;
}

bool MemoryBytes::read(std::uint64_t offset, std::span<std::byte> out) const
{
  // Neighbouring mappings continue one another, and share a page of the file where segments meet within it.
  while (!out.empty()) {
    const auto covers = [&](const Part& part) {
      return part.offset <= offset && offset - part.offset < part.bytes.size();
    };
    const auto part = std::find_if(parts_.begin(), parts_.end(), covers);
    if (part == parts_.end()) return false;
    const auto from = static_cast<std::size_t>(offset - part->offset);
    const std::size_t n = std::min(out.size(), part->bytes.size() - from);
    std::memcpy(out.data(), part->bytes.data() + from, n);
    out = out.subspan(n);
    offset += n;
  }
  return true;
}

std::uint64_t Cursor::take_unsigned(std::size_t bytes)
{
  // clang-format off
  switch (bytes) {
    case 1: return take<std::uint8_t>();
    case 2: return take<std::uint16_t>();
    case 4: return take<std::uint32_t>();
    case 8: return take<std::uint64_t>();
    default: fail(); return 0;
  }
  // clang-format on
}

std::uint64_t Cursor::uleb()
{
  std::uint64_t value = 0;
  for (unsigned shift = 0; ok_; shift += 7) {
    const auto byte = take<std::uint8_t>();
    if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) break;
  }
  return value;
}

std::int64_t Cursor::sleb()
{
  std::uint64_t value = 0;
  unsigned shift = 0;
  while (ok_) {
    const auto byte = take<std::uint8_t>();
    if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    shift = std::min(shift + 7, 70U);
    if ((byte & 0x80) == 0) {
      if ((byte & 0x40) != 0 && shift < 64) value |= ~std::uint64_t{0} << shift;
      break;
    }
  }
  return static_cast<std::int64_t>(value);
}

std::string_view Cursor::text()
{
  const std::size_t from = at_;
  const auto* start = bytes_.data() + from;
  const void* end = at_end() ? nullptr : std::memchr(start, 0, bytes_.size() - from);
  if (end == nullptr) {
    fail();
    return {};
  }
  const auto length = static_cast<std::size_t>(static_cast<const std::byte*>(end) - start);
  at_ += length + 1;
  return {reinterpret_cast<const char*>(start), length};
}

std::string_view text_at(std::span<const std::byte> table, std::uint64_t offset)
{
  return Cursor{table, offset}.text();
}

}  // namespace laggard::identify
