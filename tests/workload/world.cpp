// SPDX-License-Identifier: MIT
#include "world.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace workload {
namespace {

std::uint64_t settle_namespace(const Options& options)
{
  if (options.netns)
    enter_new_netns();
  const std::uint64_t inode = netns_inode();
  raise_fd_limit();
  if (options.uid)
    drop_to_uid(*options.uid);
  return inode;
}

void on_alarm(int)
{
  static constexpr char kText[] = "error lifetime is over\n";
  if (::write(STDOUT_FILENO, kText, sizeof kText - 1) < 0)
    ::_exit(4);
  ::_exit(3);
}

}  // namespace

void guard_lifetime(Duration lifetime)
{
  ::signal(SIGALRM, on_alarm);
  ::alarm(static_cast<unsigned>(std::chrono::ceil<std::chrono::seconds>(lifetime).count()));
}

World::World(const Options& options) : options_(options), netns_(settle_namespace(options)), peer_(options)
{
  Line("pid=" + std::to_string(::getpid())).add("peer_pid", peer_.tgid()).add("scenario", options.name).print();
}

void World::prepare_listener()
{
  if (target_.length != 0)
    return;
  const int family = address_family(options_);
  if (options_.connected) {
    PeerRequest request;
    request.op = PeerOp::listen;
    request.address = loopback(family, options_.port);
    target_ = peer_.ask(request);
  } else {
    listener_ = make_listener(loopback(family, options_.port), options_.rcvbuf);
    target_ = local_address(listener_.get());
  }
}

Observed& World::open()
{
  const int family = address_family(options_);
  Observed observed;
  observed.id = next_id_++;
  PeerRequest request;
  request.id = observed.id;
  request.flag = options_.udp ? 1 : 0;
  if (options_.udp) {
    observed.fd = make_socket(family, true, options_.rcvbuf);
    bind_to(observed.fd.get(), loopback(family, options_.port));
    request.op = PeerOp::connect;
    request.address = local_address(observed.fd.get());
    const Address sender = peer_.ask(request);
    if (options_.connected)
      connect_to(observed.fd.get(), sender);
  } else if (options_.connected) {
    prepare_listener();
    observed.fd = make_socket(family, false, options_.rcvbuf);
    connect_to(observed.fd.get(), target_);
    request.op = PeerOp::accept;
    peer_.ask(request);
  } else {
    prepare_listener();
    request.op = PeerOp::connect;
    request.address = target_;
    peer_.ask(request);
    observed.fd = accept_from(listener_.get());
  }
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(options_.deadline).count();
  const timeval timeout{whole + 1, 0};  // a blocking read that waits in vain is an error, not a hang
  ::setsockopt(observed.fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  sockets_.push_back(std::move(observed));
  return sockets_.back();
}

void World::let_wait()
{
  prepare_listener();
  PeerRequest request;
  request.id = next_id_++;
  request.op = PeerOp::connect;
  request.address = target_;
  peer_.ask(request);
  request.op = PeerOp::send;
  request.bytes = options_.bytes;
  peer_.ask(request);
}

void World::ask(PeerOp op, const Observed& socket)
{
  PeerRequest request;
  request.op = op;
  request.id = socket.id;
  peer_.ask(request);
}

void World::send(const Observed& socket, std::uint64_t bytes, std::uint64_t rate, bool finish)
{
  PeerRequest request;
  request.op = PeerOp::send;
  request.id = socket.id;
  request.bytes = bytes;
  request.rate = rate;
  request.size = options_.udp && options_.size == 0 ? 1024 : options_.size;
  request.flag = finish ? 1 : 0;
  peer_.ask(request);
}

bool World::send_and_wait(const Observed& socket, std::uint64_t bytes, bool finish)
{
  const int fd = socket.fd.get();
  const std::int64_t wanted = siocinq(fd) + static_cast<std::int64_t>(bytes);
  send(socket, bytes, kUnlimited, finish);
  return wait_until(options_.deadline, [&] { return siocinq(fd) == wanted && (!finish || peer_has_closed(fd)); });
}

// SIOCINQ tells of the first datagram only; the memory charged tells of each.
bool World::send_datagram_and_wait(const Observed& socket, std::uint64_t size)
{
  const int fd = socket.fd.get();
  const MemInfo before = memory_of(fd);
  PeerRequest request;
  request.op = PeerOp::send;
  request.id = socket.id;
  request.bytes = request.size = size;
  peer_.ask(request);
  return wait_until(options_.deadline, [&] {
    const MemInfo now = memory_of(fd);
    return now.rmem_alloc > before.rmem_alloc || now.drops > before.drops;
  });
}

ssize_t World::take(int fd, char* buffer, std::size_t size, int flags)
{
  ssize_t count = -1;
  do {
    if (options_.call == Call::recvmsg) {
      iovec piece{buffer, size};
      msghdr message{};
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      count = ::recvmsg(fd, &message, flags);
    } else if (options_.call == Call::read && flags == 0) {
      count = ::read(fd, buffer, size);
    } else {
      count = ::recv(fd, buffer, size, flags);
    }
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    const int error = errno;
    totals_.eagain += error == EAGAIN ? 1 : 0;
    return -error;
  }
  if ((flags & MSG_PEEK) != 0) {
    totals_.peeks++;
    return count;
  }
  totals_.reads++;
  totals_.bytes_read += static_cast<std::uint64_t>(count);
  totals_.zero_reads += count == 0 && !options_.udp && size > 0 ? 1 : 0;
  return count;
}

std::vector<char>& World::scratch(std::size_t size)
{
  if (scratch_.size() < size)
    scratch_.resize(size);
  return scratch_;
}

void World::move_to_child()
{
  int ends[2] = {-1, -1};
  if (::pipe(ends) != 0)
    fail_errno("pipe");
  Fd read_end{ends[0]};
  Fd write_end{ends[1]};
  const pid_t parent = ::getpid();
  const unsigned left = ::alarm(0);
  const pid_t child = ::fork();
  if (child < 0)
    fail_errno("fork");
  ::alarm(child == 0 ? left : left + 2);
  if (child == 0) {
    die_with_parent(parent);
    peer_.disown();
    opener_tgid_ = parent;
    write_end.reset();
    char end = 0;
    while (::read(read_end.get(), &end, 1) < 0 && errno == EINTR) {
    }
    return;
  }
  sockets_.clear();
  listener_.reset();
  peer_.hang_up();
  write_end.reset();  // tells the child that its copies are the only ones
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  peer_.end();
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
}

void World::freeze_identity()
{
  // Where no socket stays (visits), the listening end is the fact.
  const bool listening = sockets_.empty() && listener_.open();
  const int fd = listening ? listener_.get() : this->fd();
  identity_ = Line{};
  if (fd >= 0)
    identity_.add("local", local_address(fd).text())
        .add("peer", peer_address(fd).text())
        .add("inode", socket_inode(fd))
        .add("cookie", socket_cookie(fd));
  else
    identity_.add("local", loopback(address_family(options_), 0).text())
        .add("peer", target_.text())
        .add("inode", 0)
        .add("cookie", 0);
  identity_.add("netns", netns_);
}

Line World::ready() const
{
  Line line{"pid=" + std::to_string(::getpid())};
  line.append(identity_).add("peer_pid", peer_.tgid()).add("sockets", sockets_.size());
  line.add("role", options_.connected ? "connected" : "accepted");
  if (opener_tgid_ != 0)
    line.add("opener_pid", opener_tgid_);
  return line;
}

Line World::stat() const
{
  std::int64_t unread = 0;
  std::size_t open_sockets = 0;
  for (const Observed& socket : sockets_) {
    unread += std::max<std::int64_t>(siocinq(socket.fd.get()), 0);
    open_sockets += socket.fd.open() ? 1 : 0;
  }
  const MemInfo memory = memory_of(fd());
  Line line;
  line.add("siocinq", siocinq(fd())).add("bytes_read", totals_.bytes_read).add("reads", totals_.reads);
  line.add("state", state_name(fd())).add("peeks", totals_.peeks).add("eagain", totals_.eagain);
  line.add("zero_reads", totals_.zero_reads).add("bytes_spliced", totals_.bytes_spliced);
  line.add("bytes_kept", totals_.bytes_kept).add("bytes_sent", peer_.bytes_sent()).add("visits", totals_.visits);
  line.add("sockets", open_sockets).add("siocinq_total", unread);
  return line.add("rmem_alloc", memory.rmem_alloc).add("rcvbuf", memory.rcvbuf).add("drops", memory.drops);
}

void World::close_all()
{
  sockets_.clear();
  listener_.reset();
  peer_.end();
}

}  // namespace workload
