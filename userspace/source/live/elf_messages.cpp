// SPDX-License-Identifier: MIT
#include "source/live/elf_messages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

namespace laggard::source::live {
namespace {

constexpr std::size_t kInlineBytes = 64 << 10;  // a packet must fit into net.core.wmem_default, 208 KiB
constexpr std::size_t kMostBytes = 32 << 20;

struct Head {
  ElfMessage kind;
  std::uint8_t in_file;  // the bytes are in the last file
};

Fd file_of(std::string_view bytes)
{
  Fd file{::memfd_create("laggard-elf", MFD_CLOEXEC)};
  while (file && !bytes.empty()) {
    const ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return {};
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return file;
}

// Of a memfd and nothing else: to read another file could take for ever.
std::optional<std::string> content_of(const Fd& file)
{
  struct stat status {};
  if (::fcntl(file.get(), F_GET_SEALS) < 0 || ::fstat(file.get(), &status) != 0 || static_cast<std::size_t>(status.st_size) > kMostBytes)
    return std::nullopt;
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::pread(file.get(), bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return std::nullopt;
    at += static_cast<std::size_t>(n);
  }
  return bytes;
}

union Control {
  cmsghdr align;
  std::array<char, CMSG_SPACE(kMostElfFiles * sizeof(int))> bytes;
};

}  // namespace

Result<void> send(int socket, ElfMessage kind, std::string_view bytes, std::span<const int> files, bool waits)
{
  std::vector<int> sent(files.begin(), files.end());
  Head head{kind, bytes.size() > kInlineBytes};
  Fd large;
  if (head.in_file != 0) {
    large = file_of(bytes);
    if (!large)
      return errno_failure("cannot be read: its reader has no memory for what it found");
    sent.push_back(large.get());
    bytes = {};
  }
  std::array<iovec, 2> parts = {iovec{&head, sizeof head}, iovec{const_cast<char*>(bytes.data()), bytes.size()}};
  Control control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (!sent.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(sent.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sent.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), sent.data(), sent.size() * sizeof(int));
  }
  while (::sendmsg(socket, &message, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT)) < 0)
    if (errno != EINTR)
      return errno_failure("who reads ELF files is not there");
  return {};
}

Result<std::optional<ElfPacket>> receive(int socket, bool waits)
{
  Head head{};
  std::string bytes(kInlineBytes, '\0');
  std::array<iovec, 2> parts = {iovec{&head, sizeof head}, iovec{bytes.data(), bytes.size()}};
  Control control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  ssize_t got = 0;
  while ((got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (waits ? 0 : MSG_DONTWAIT))) < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK)
      return std::optional<ElfPacket>{};
    if (errno != EINTR)
      return errno_failure("who reads ELF files is not there");
  }
  ElfPacket packet;
  packet.kind = head.kind;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
      continue;
    for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
      packet.files.emplace_back(fd);
    }
  }
  if (got < static_cast<ssize_t>(sizeof head) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return failure(got == 0 ? "who reads ELF files has left" : "who reads ELF files sends what is no message");
  bytes.resize(static_cast<std::size_t>(got) - sizeof head);
  packet.bytes = std::move(bytes);
  if (head.in_file != 0) {
    auto content = packet.files.empty() ? std::nullopt : content_of(packet.files.back());
    if (!content)
      return failure("who reads ELF files sends what is no message");
    packet.files.pop_back();
    packet.bytes = std::move(*content);
  }
  return std::optional<ElfPacket>{std::move(packet)};
}

}  // namespace laggard::source::live
