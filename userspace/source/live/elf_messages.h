// SPDX-License-Identifier: MIT
// What laggard and a process that reads ELF files for it say to each other, over a SOCK_SEQPACKET pair. Either checks all that
// it receives: the other may have been taken over by a file.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::source::live {

enum class ElfMessage : std::uint8_t {
  // To the reader; each is answered by Answer.
  Functions,  // of one file, which comes with it
  Names,      // of addresses in a process
  Open,       // a process, for any number of the next three
  Remap,
  Unwind,
  Resolve,
  // From the reader while it works; each is answered by Reply.
  Maps,
  Mapped,
  Memory,
  Named,
  Reply,
  Answer,
  // Between laggard and the starter of readers.
  Begin,
  Ended,
};

struct ElfPacket {
  ElfMessage kind{};
  std::string bytes;
  std::vector<Fd> files;  // at most kMostElfFiles
};
inline constexpr std::size_t kMostElfFiles = 4;

// Bytes of any number: what does not fit into a packet goes with it as a memfd. `waits`: for room. Errors: the other has left.
Result<void> send(int socket, ElfMessage kind, std::string_view bytes = {}, std::span<const int> files = {}, bool waits = true);
// Nothing: there is none yet, and it does not wait. Errors: the other has left, or what it sent is none of these.
Result<std::optional<ElfPacket>> receive(int socket, bool waits);

class Packer {
 public:
  template <class T>
    requires(std::is_arithmetic_v<T>)
  Packer& add(T value)
  {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Packer& add(std::string_view text)
  {
    add<std::uint64_t>(text.size());
    bytes_ += text;
    return *this;
  }
  template <class List, class Each>
  Packer& each(const List& list, Each one)
  {
    add<std::uint64_t>(list.size());
    for (const auto& element : list)
      one(element);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// What is not there is 0 or empty, and is_whole() false from then on.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : rest_(bytes) {}
  template <class T>
    requires(std::is_arithmetic_v<T>)
  T take()
  {
    T value{};
    const std::string_view bytes = cut(sizeof value);
    if (!bytes.empty())
      std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string text() { return std::string(cut(take<std::uint64_t>())); }
  template <class Each>
  void each(Each one)
  {
    for (auto left = take<std::uint64_t>(); left > 0 && is_whole_; left--)
      one();
  }
  bool is_whole() const { return is_whole_; }

 private:
  std::string_view cut(std::uint64_t size)
  {
    is_whole_ = is_whole_ && size <= rest_.size();
    if (!is_whole_)
      return {};
    const std::string_view part = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return part;
  }
  std::string_view rest_;
  bool is_whole_ = true;
};

}  // namespace laggard::source::live
