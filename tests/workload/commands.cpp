// SPDX-License-Identifier: MIT
#include "commands.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>

namespace workload {
namespace {

using Words = std::vector<std::string>;

constexpr std::size_t kMostBytes = 1 << 26;

Line error(const std::string& what) { return Line{"error " + what}; }

std::uint64_t number(const Words& words, std::size_t index, std::uint64_t otherwise)
{
  return words.size() > index ? parse_number(words[index]) : otherwise;
}

std::size_t block_size(const Words& words, std::size_t index, std::size_t otherwise)
{
  const std::uint64_t size = number(words, index, otherwise);
  if (size > kMostBytes)
    throw Failure("more than 64 MiB at once");
  return size;
}

Line ok(const World& world, Line facts = Line{})
{
  return Line{"ok"}.append(facts).append(world.stat());
}

Line read_command(World& world, const Words& words, int flags)
{
  const std::uint64_t times = number(words, 1, 1);
  const std::size_t size = block_size(words, 2, 65536);
  std::vector<char>& buffer = world.scratch(size);
  std::uint64_t bytes = 0;
  for (std::uint64_t index = 0; index < times; index++) {
    const ssize_t count = world.take(world.fd(), buffer.data(), size, flags);
    if (count < 0)
      return error("call " + std::to_string(index + 1) + ": " + std::strerror(static_cast<int>(-count)));
    bytes += static_cast<std::uint64_t>(count);
  }
  return ok(world, Line{}.add("calls", times).add("bytes", bytes));
}

Line read_eagain(World& world, const Words&)
{
  char byte = 0;
  const ssize_t count = world.take(world.fd(), &byte, 1, MSG_DONTWAIT);
  if (count != -EAGAIN)
    return error("the read returned " + std::to_string(count) + ", not EAGAIN");
  return ok(world);
}

Line read_all(World& world, const Words& words)
{
  const std::size_t size = block_size(words, 1, 65536);
  std::vector<char>& buffer = world.scratch(size);
  std::uint64_t calls = 0;
  std::uint64_t bytes = 0;
  for (;;) {
    const ssize_t count = world.take(world.fd(), buffer.data(), size, MSG_DONTWAIT);
    if (count == -EAGAIN)
      break;
    if (count < 0)
      return error(std::strerror(static_cast<int>(-count)));
    calls++;
    bytes += static_cast<std::uint64_t>(count);
    if (count == 0 && !world.options().udp)
      break;
  }
  return ok(world, Line{}.add("calls", calls).add("bytes", bytes));
}

Line splice_command(World& world, const Words& words)
{
  const std::uint64_t wanted = number(words, 1, 1);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0)
    fail_errno("pipe");
  const Fd out{ends[0]};
  const Fd in{ends[1]};
  std::vector<char>& buffer = world.scratch(65536);
  std::uint64_t bytes = 0;
  std::uint64_t calls = 0;
  while (bytes < wanted) {
    const std::uint64_t most = std::min<std::uint64_t>(wanted - bytes, 65536);
    ssize_t count = ::splice(world.fd(), nullptr, in.get(), nullptr, most, 0);
    if (count <= 0)
      return error(count == 0 ? "end of stream" : std::strerror(errno));
    calls++;
    bytes += static_cast<std::uint64_t>(count);
    world.totals().bytes_spliced += static_cast<std::uint64_t>(count);
    while (count > 0) {  // the pipe is emptied by reads: an initramfs has no /dev/null
      const ssize_t drained = ::read(out.get(), buffer.data(), buffer.size());
      if (drained <= 0)
        fail_errno("read the pipe");
      count -= drained;
    }
  }
  return ok(world, Line{}.add("calls", calls).add("bytes", bytes));
}

Line recvmmsg_command(World& world, const Words& words)
{
  const std::uint64_t most = std::min<std::uint64_t>(number(words, 1, 1), 1024);
  const std::size_t size = block_size(words, 2, 2048);
  if (most * size > kMostBytes)
    return error("more than 64 MiB at once");
  std::vector<char>& buffer = world.scratch(most * size);
  std::vector<iovec> pieces(most);
  std::vector<mmsghdr> messages(most);
  for (std::size_t index = 0; index < most; index++) {
    pieces[index] = {buffer.data() + index * size, size};
    messages[index].msg_hdr.msg_iov = &pieces[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  const int count = ::recvmmsg(world.fd(), messages.data(), static_cast<unsigned>(most), MSG_WAITFORONE, nullptr);
  if (count < 0)
    return error(std::strerror(errno));
  std::uint64_t bytes = 0;
  for (std::size_t index = 0; index < static_cast<std::size_t>(count); index++)
    bytes += messages[index].msg_len;
  world.totals().reads += static_cast<std::uint64_t>(count);
  world.totals().bytes_read += bytes;
  return ok(world, Line{}.add("messages", count).add("bytes", bytes));
}

Line send_command(World& world, const Words& words, bool finish)
{
  const Observed& socket = world.sockets().front();
  const std::uint64_t amount = number(words, 1, 1);
  if (world.options().rate != 0)
    return error("the sender of this scenario streams by itself");
  if (world.options().udp) {
    if (finish)
      return error("send-fin is for TCP");
    const std::uint64_t size = number(words, 2, 101);
    if (size > kMostDatagram)
      return error("a datagram has at most " + std::to_string(kMostDatagram) + " bytes");
    const std::int64_t dropped = memory_of(world.fd()).drops;
    for (std::uint64_t index = 0; index < amount; index++)
      if (!world.send_datagram_and_wait(socket, size))
        return error("datagram " + std::to_string(index + 1) + " neither arrived nor was dropped");
    return ok(world, Line{}.add("sent", amount).add("dropped", memory_of(world.fd()).drops - dropped));
  }
  if (finish && amount == 0)
    return error("send-fin needs at least 1 byte; see peer-fin");
  if (!world.send_and_wait(socket, amount, finish))
    return error("not all arrived in time; siocinq=" + std::to_string(siocinq(world.fd())));
  return ok(world, Line{}.add("sent", amount));
}

Line end_command(World& world, PeerOp op)
{
  if (world.options().udp)
    return error("for TCP only");
  world.ask(op, world.sockets().front());
  const auto arrived = [&] {
    world.idle();  // the FIN queues behind data that only the scenario's reader makes room for
    return peer_has_closed(world.fd());
  };
  if (!wait_until(world.options().deadline, arrived))
    return error("the FIN did not arrive in time; state=" + state_name(world.fd()));
  return ok(world);
}

Line shutdown_command(World& world, const Words&)
{
  if (::shutdown(world.fd(), SHUT_WR) != 0)
    return error(std::strerror(errno));
  const bool acknowledged = wait_until(world.options().deadline, [&] {
    const int state = tcp_state(world.fd());
    return state != TCP_FIN_WAIT1 && state != TCP_LAST_ACK && state != TCP_CLOSING;
  });
  return acknowledged ? ok(world) : error("the FIN was not acknowledged in time");
}

Line close_command(World& world, const Words&)
{
  world.sockets().front().fd.reset();
  return ok(world);
}

Line fork_close(World& world, const Words&)
{
  const pid_t opener = ::getpid();
  world.move_to_child();
  return ok(world, Line{}.add("child_pid", ::getpid()).add("opener_pid", opener));
}

Line reopen(World& world, const Words&)
{
  world.sockets().clear();
  world.open();
  world.freeze_identity();
  return Line{"ok"}.append(world.ready());
}

using Command = std::function<Line(World&, const Words&)>;

const std::map<std::string, Command>& commands()
{
  static const std::map<std::string, Command> table = {
      {"read", [](World& world, const Words& words) { return read_command(world, words, 0); }},
      {"peek", [](World& world, const Words& words) { return read_command(world, words, MSG_PEEK); }},
      {"read-eagain", read_eagain},
      {"read-all", read_all},
      {"splice", splice_command},
      {"recvmmsg", recvmmsg_command},
      {"send", [](World& world, const Words& words) { return send_command(world, words, false); }},
      {"send-fin", [](World& world, const Words& words) { return send_command(world, words, true); }},
      {"peer-fin", [](World& world, const Words&) { return end_command(world, PeerOp::finish); }},
      {"peer-close", [](World& world, const Words&) { return end_command(world, PeerOp::close); }},
      {"shutdown", shutdown_command},
      {"close", close_command},
      {"fork-close", fork_close},
      {"reopen", reopen},
  };
  return table;
}

}  // namespace

Line run_command(World& world, const Words& words)
{
  const auto found = commands().find(words[0]);
  if (found == commands().end())
    return error("unknown command '" + words[0] + "'");
  if (world.fd() < 0 && words[0] != "reopen")
    return error("the socket is closed");
  try {
    return found->second(world, words);
  } catch (const Failure& failure) {
    return error(failure.what());
  }
}

}  // namespace workload
