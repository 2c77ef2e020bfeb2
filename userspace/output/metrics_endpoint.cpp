// SPDX-License-Identifier: MIT
#include "output/metrics_endpoint.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>

namespace laggard::output {
namespace {

constexpr std::size_t kMaxRequestBytes = 8192;  // Prometheus sends 300
constexpr int kBacklog = 1024;                  // the kernel's somaxconn may be less

MetricsEndpoint::Text response(std::string_view status, std::string_view type, std::string_view body, bool with_body = true)
{
  return std::make_shared<const std::string>(fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                                                         status, type, body.size(), with_body ? body : ""));
}

MetricsEndpoint::Text sorry(std::string_view status) { return response(status, "text/plain; charset=utf-8", fmt::format("{}\n", status)); }

}  // namespace

MetricsEndpoint::Text MetricsEndpoint::answer_to(std::string_view request, const Page& page)
{
  const std::string_view line = request.substr(0, request.find_first_of("\r\n"));
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == last || !line.substr(last + 1).starts_with("HTTP/1."))
    return sorry("400 Bad Request");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (method != "GET" && method != "HEAD")
    return sorry("405 Method Not Allowed");
  if (target.substr(0, target.find('?')) != "/metrics")
    return sorry("404 Not Found: the metrics are at /metrics");
  const Text text = page();
  constexpr std::string_view kType = "text/plain; version=0.0.4; charset=utf-8";
  if (method == "HEAD")
    return response("200 OK", kType, *text, false);
  if (text != page_) {
    page_ = text;
    page_answer_ = response("200 OK", kType, *text);
  }
  return page_answer_;
}

Result<ListenAddress> parse_listen_address(std::string_view text)
{
  const auto wrong = [&] {
    return failure(fmt::format("'{}' is not ADDRESS:PORT, such as 127.0.0.1:9464, 0.0.0.0:9464, [::1]:9464 or just 9464", text));
  };
  std::string host, port{text};
  if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string::npos)
    return wrong();
  if (host.empty() || host == "localhost")
    host = "127.0.0.1";
  if (port.empty() || port.size() > 5 || !std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; }) || std::stoi(port) > 65535)
    return wrong();

  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;  // a listener needs no name server
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
    return wrong();
  ListenAddress address{std::string(text), {}, found->ai_addrlen};
  std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen, reinterpret_cast<char*>(&address.address));
  ::freeaddrinfo(found);
  return address;
}

Result<MetricsEndpoint> MetricsEndpoint::listen(const ListenAddress& address)
{
  MetricsEndpoint endpoint;
  endpoint.listener_.reset(::socket(address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int fd = endpoint.listener_.get();
  const int yes = 1;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address.address), address.length) != 0 || ::listen(fd, kBacklog) != 0)
    return errno_failure(fmt::format("cannot serve --metrics {}", address.text));
  // The looks need descriptors, too.
  if (rlimit limit{}; ::getrlimit(RLIMIT_NOFILE, &limit) == 0)
    endpoint.max_clients_ = std::clamp<std::size_t>(limit.rlim_cur / 4, 1, kMaxClients);
  return endpoint;
}

std::string MetricsEndpoint::url() const
{
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "?";
  const bool is_ipv6 = address.ss_family == AF_INET6;
  return fmt::format("http://{}{}{}:{}/metrics", is_ipv6 ? "[" : "", host.data(), is_ipv6 ? "]" : "", port.data());
}

bool MetricsEndpoint::accept_waiting(Clock::time_point now)
{
  while (!is_full()) {
    Fd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!fd)
      return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    clients_.push_back({std::move(fd), now});
  }
  return true;
}

// Who has had its time; and who has had its share of it while others wait.
void MetricsEndpoint::drop_late(Clock::time_point now)
{
  const Clock::duration most = is_full() ? Clock::duration{kGrace} : Clock::duration{kPatience};
  std::erase_if(clients_, [&](const Client& client) {
    if (now - client.since <= most)
      return false;
    // What it has not taken yet is nobody's any more, the kernel's neither.
    const linger at_once{1, 0};
    ::setsockopt(client.fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    return true;
  });
}

bool MetricsEndpoint::is_over(Client& client, const Page& page)
{
  std::array<char, 2048> bytes;
  // Who talks and talks must not keep the others waiting.
  for (int rounds = 0; rounds < 4 && !client.said_all; rounds++) {
    const ssize_t got = ::recv(client.fd.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
      break;
    if (got < 0)
      return true;
    client.said_all = got == 0;
    if (client.answer)
      continue;  // closed with bytes unread, the connection would be reset, and the answer with it
    client.request.append(bytes.data(), static_cast<std::size_t>(got));
    if (client.request.find("\r\n\r\n") != std::string::npos || client.request.find("\n\n") != std::string::npos)
      client.answer = answer_to(client.request, page);
    else if (client.request.size() > kMaxRequestBytes)
      client.answer = sorry("431 Request Header Fields Too Large");
  }
  while (client.has_more_to_come()) {
    const ssize_t sent = ::send(client.fd.get(), client.answer->data() + client.sent, client.answer->size() - client.sent, MSG_NOSIGNAL);
    if (sent < 0)
      return errno != EAGAIN && errno != EINTR;
    client.sent += static_cast<std::size_t>(sent);
    if (!client.has_more_to_come())
      ::shutdown(client.fd.get(), SHUT_WR);  // and wait until the client has closed, too
  }
  return client.said_all && !client.has_more_to_come();
}

void MetricsEndpoint::serve(int wake_fd, std::chrono::milliseconds time, const Page& page)
{
  const Clock::time_point end = Clock::now() + time;
  std::vector<pollfd> fds;
  bool can_accept = true;  // else not before the next round: who waits is there all the time
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    drop_late(now);
    fds.assign({{wake_fd, POLLIN, 0}, {can_accept && !is_full() ? listener_.get() : -1, POLLIN, 0}});
    for (const Client& client : clients_) {
      const int wanted = (client.said_all ? 0 : POLLIN) | (client.has_more_to_come() ? POLLOUT : 0);
      fds.push_back({client.fd.get(), static_cast<short>(wanted), 0});
    }
    const auto pause = std::min<Clock::duration>(end - now, clients_.empty() && can_accept ? Clock::duration{time} : Clock::duration{kGrace / 2});
    const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(pause).count()));
    if (fds[0].revents != 0)
      return;
    can_accept = true;
    if (ready <= 0)
      continue;
    // Backwards: what is erased has been looked at.
    for (std::size_t i = clients_.size(); i-- > 0;)
      if (fds[i + 2].revents != 0 && is_over(clients_[i], page))
        clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(i));
    can_accept = accept_waiting(Clock::now());
  }
}

}  // namespace laggard::output
