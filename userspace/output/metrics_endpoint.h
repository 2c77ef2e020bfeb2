// SPDX-License-Identifier: MIT
// GET /metrics over HTTP/1.1, for scrapers that may be slow, broken or many.
//
// One thread serves all clients without waiting for any of them. Their number is bounded, and with it memory and
// descriptors; the others wait in the kernel, where each costs no more than a request. civetweb, which prometheus-cpp
// brings along, spends a thread on each client: with 1000 that send a byte every two seconds, one second allowed, a scrape took
// more than 30 s with 2 or 10 threads and 21 s with 50. Here: tests/deploy/metrics_test.py.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::output {

struct ListenAddress {
  std::string text;  // as it was given
  sockaddr_storage address{};
  socklen_t length = 0;
};
// "9464" and ":9464" are 127.0.0.1; "0.0.0.0:9464", "[::1]:9464", "localhost:9464". Port 0: the kernel chooses.
Result<ListenAddress> parse_listen_address(std::string_view text);

class MetricsEndpoint {
 public:
  static constexpr std::size_t kMaxClients = 256;
  // When there is no room: a client that has been served for this long makes way. Who is well gets its answer in less.
  static constexpr std::chrono::milliseconds kGrace{250};
  static constexpr std::chrono::seconds kPatience{10};  // with any client; Prometheus has no more by default

  static Result<MetricsEndpoint> listen(const ListenAddress& address);
  std::string url() const;

  // Serves until `wake_fd` is readable or the time is over. `page` is called when a request is complete.
  using Page = std::function<std::string()>;
  void serve(int wake_fd, std::chrono::milliseconds time, const Page& page);

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    Fd fd;
    Clock::time_point since;
    std::string request{};
    std::string answer{};  // empty: the request is not complete
    std::size_t sent = 0;
    bool said_all = false;  // its side is closed
  };

  void accept_waiting(Clock::time_point now);
  void drop_late(Clock::time_point now);
  bool is_over(Client& client, const Page& page);

  Fd listener_;
  std::vector<Client> clients_;  // oldest first
};

}  // namespace laggard::output
