// SPDX-License-Identifier: MIT
#include "peer_process.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace workload {
namespace {

using namespace std::chrono_literals;

constexpr Duration kBurst = 10ms;     // a limited sender sends so often ...
constexpr double kMostBehind = 0.1;   // ... and makes up for at most so many seconds of a blocked socket
constexpr std::size_t kBlock = 65536;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

int poll_timeout(TimePoint wake, TimePoint now)
{
  if (wake == TimePoint::max())
    return -1;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wake - now).count();
  return static_cast<int>(std::clamp<std::int64_t>(ms, 0, 60'000));
}

}  // namespace

PeerProcess::PeerProcess(Fd control, std::atomic<std::uint64_t>* bytes_sent)
    : control_(std::move(control)), bytes_sent_(bytes_sent), block_(kBlock, 'x')
{
}

void PeerProcess::run()
{
  while (!ended_)
    wait_and_serve();
}

void PeerProcess::wait_and_serve()
{
  const TimePoint now = Clock::now();
  TimePoint wake = TimePoint::max();
  std::vector<pollfd> polled = {{control_.get(), POLLIN, 0}};
  std::vector<std::uint32_t> ids = {0};
  for (auto& [id, connection] : connections_) {
    short events = 0;
    wake = std::min(wake, prepare(connection, now, events));
    if (events == 0)  // else poll would report a hang-up again and again
      continue;
    polled.push_back({connection.fd.get(), events, 0});
    ids.push_back(id);
  }
  if (::poll(polled.data(), polled.size(), poll_timeout(wake, now)) < 0)
    return;
  for (std::size_t index = 1; index < polled.size(); index++) {
    const auto found = connections_.find(ids[index]);
    if ((polled[index].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && (polled[index].events & POLLIN) != 0)
      receive_some(found->second);
    if ((polled[index].revents & (POLLOUT | POLLHUP | POLLERR)) != 0 && (polled[index].events & POLLOUT) != 0)
      send_some(found->second);
    if (found->second.close_after && found->second.pending == 0)
      connections_.erase(found);
  }
  if (polled[0].revents != 0 && !obey())
    ended_ = true;
}

// What to poll for, and when to look again if that does not happen.
TimePoint PeerProcess::prepare(Connection& connection, TimePoint now, short& events)
{
  TimePoint wake = TimePoint::max();
  if (connection.answer != Answer::none)
    events = POLLIN;
  if (connection.reply_at && *connection.reply_at <= now) {
    connection.reply_at.reset();
    connection.pending += connection.size;
    connection.close_after = true;
  }
  if (connection.reply_at)
    wake = *connection.reply_at;
  if (connection.pending == 0 || paused_) {
    connection.refilled = now;
    return wake;
  }
  if (connection.rate == kUnlimited) {
    events = static_cast<short>(events | POLLOUT);
    return wake;
  }
  const double least = connection.udp ? static_cast<double>(connection.size) : 1;
  const double rate = static_cast<double>(connection.rate);
  connection.tokens = std::min(connection.tokens + seconds(now - connection.refilled) * rate,
                               std::max(least, rate * kMostBehind));
  connection.refilled = now;
  if (connection.tokens >= least && now >= connection.next_burst) {
    events = static_cast<short>(events | POLLOUT);
    return wake;
  }
  const double missing_s = std::clamp((least - connection.tokens) / std::max(rate, 1.0), 0.0, 60.0);
  return std::min(wake, std::max(connection.next_burst, now + Duration{static_cast<Duration::rep>(missing_s * 1e9)}));
}

void PeerProcess::send_some(Connection& connection)
{
  std::uint64_t most = connection.udp ? connection.size : std::min<std::uint64_t>(connection.pending, kBlock);
  if (connection.rate != kUnlimited && !connection.udp)
    most = std::min(most, static_cast<std::uint64_t>(connection.tokens));
  // With MSG_MORE the last bytes stay corked until shutdown() puts the FIN on their segment.
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (connection.finish ? MSG_MORE : 0);
  const ssize_t sent = ::send(connection.fd.get(), block_.data(), most, flags);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR)
      connection.pending = 0;  // closed by the observed end
    return;
  }
  const auto bytes = static_cast<std::uint64_t>(sent);
  *bytes_sent_ += bytes;
  if (connection.rate != kUnlimited) {
    connection.tokens -= static_cast<double>(bytes);
    if (connection.tokens < 1)  // the next burst, not the next byte
      connection.next_burst = connection.refilled + kBurst;
  }
  if (connection.pending != kUnlimited)
    connection.pending -= std::min(bytes == 0 ? 1 : bytes, connection.pending);
  if (connection.pending == 0 && connection.finish)
    ::shutdown(connection.fd.get(), SHUT_WR);
}

void PeerProcess::receive_some(Connection& connection)
{
  const ssize_t count = ::recv(connection.fd.get(), block_.data(), block_.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  const bool ended = count <= 0;
  const std::uint64_t bytes = ended ? 0 : static_cast<std::uint64_t>(count);
  connection.received += bytes;
  if (connection.answer == Answer::echo)
    connection.pending += bytes;
  const bool whole = connection.answer == Answer::reply ? connection.received >= connection.size
                                                        : connection.answer == Answer::reply_at_eof && ended;
  if (whole)
    connection.reply_at = Clock::now() + connection.linger;
  if (ended || whole)
    connection.answer = Answer::none;
}

bool PeerProcess::obey()
{
  PeerRequest request;
  if (::recv(control_.get(), &request, sizeof request, 0) != sizeof request)
    return false;
  PeerReply reply;
  try {
    reply = execute(request);
  } catch (const Failure&) {
    reply.error = errno != 0 ? errno : EIO;
  }
  return ::send(control_.get(), &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply;
}

PeerReply PeerProcess::add(std::uint32_t id, Fd fd, bool udp)
{
  Connection connection;
  connection.udp = udp;
  PeerReply reply;
  reply.address = local_address(fd.get());
  connection.fd = std::move(fd);
  connections_.insert_or_assign(id, std::move(connection));
  return reply;
}

void PeerProcess::start_sending(Connection& connection, const PeerRequest& request)
{
  if (connection.pending == kUnlimited) {
    errno = EBUSY;
    fail_errno("the sender streams already");
  }
  connection.pending = request.bytes == kUnlimited ? kUnlimited : connection.pending + request.bytes;
  connection.finish = request.flag != 0;
  connection.rate = request.rate;
  connection.size = request.size;
  connection.tokens = 0;
  connection.refilled = Clock::now();
  if (connection.udp && request.size == 0)
    connection.pending = 1;  // one empty datagram
}

PeerReply PeerProcess::execute(const PeerRequest& request)
{
  if (request.op == PeerOp::pause) {
    paused_ = request.flag != 0;
    return {};
  }
  if (request.op == PeerOp::listen) {
    listener_ = make_listener(request.address, 0);
    PeerReply reply;
    reply.address = local_address(listener_.get());
    return reply;
  }
  if (request.op == PeerOp::accept)
    return add(request.id, accept_from(listener_.get()), false);
  if (request.op == PeerOp::connect) {
    const bool udp = request.flag != 0;
    Fd fd = make_socket(request.address.storage.ss_family, udp, 0);
    connect_to(fd.get(), request.address);
    return add(request.id, std::move(fd), udp);
  }
  const auto found = connections_.find(request.id);
  if (found == connections_.end()) {
    errno = ENOTCONN;
    fail_errno("no such connection");
  }
  Connection& connection = found->second;
  if (request.op == PeerOp::send)
    start_sending(connection, request);
  else if (request.op == PeerOp::finish && ::shutdown(connection.fd.get(), SHUT_WR) != 0)
    fail_errno("shutdown");
  else if (request.op == PeerOp::close)
    connections_.erase(found);
  else if (request.op == PeerOp::answer) {
    connection.answer = request.answer;
    connection.size = request.size;
    connection.linger = Duration{request.linger_ns};
  }
  return {};
}

}  // namespace workload
