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
  static constexpr std::size_t kMaxClients = 256;  // and at most a quarter of the descriptors that we may have
  // When there is no room: a client that has been served for this long makes way. Who is well gets its answer in less.
  static constexpr std::chrono::milliseconds kGrace{250};
  static constexpr std::chrono::seconds kPatience{10};  // with any client; Prometheus has no more by default

  static Result<MetricsEndpoint> listen(const ListenAddress& address);
  std::string url() const;

  // Serves until `wake_fd` is readable or the time is over. `page` is asked when a request is complete; the same pointer is
  // the same page.
  using Text = std::shared_ptr<const std::string>;
  using Page = std::function<Text()>;
  void serve(int wake_fd, std::chrono::milliseconds time, const Page& page);

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    Fd fd;
    Clock::time_point since;
    std::string request{};
    Text answer{};  // null: the request is not complete
    std::size_t sent = 0;
    bool said_all = false;  // its side is closed
    bool has_more_to_come() const { return answer && sent < answer->size(); }
  };

  bool is_full() const { return clients_.size() >= max_clients_; }
  // False: the system refuses more.
  bool accept_waiting(Clock::time_point now);
  void drop_late(Clock::time_point now);
  bool is_over(Client& client, const Page& page);
  Text answer_to(std::string_view request, const Page& page);

  Fd listener_;
  std::size_t max_clients_ = kMaxClients;
  std::vector<Client> clients_;  // oldest first
  Text page_, page_answer_;      // shared by all that asked for it
};

}  // namespace laggard::output
