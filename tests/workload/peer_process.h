// SPDX-License-Identifier: MIT
// The event loop inside the peer process.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "peer.h"

namespace workload {

class PeerProcess {
 public:
  PeerProcess(Fd control, std::atomic<std::uint64_t>* bytes_sent);
  void run();  // until the control line closes

 private:
  struct Connection {
    Fd fd;
    bool udp = false;
    std::uint64_t pending = 0;  // bytes still to be sent
    bool finish = false;        // FIN with the last of them
    bool close_after = false;   // close after them
    std::uint64_t rate = kUnlimited;
    double tokens = 0;          // bytes that the rate allows now
    TimePoint refilled{};
    TimePoint next_burst{};
    Answer answer = Answer::none;
    std::uint64_t size = 0;
    std::uint64_t received = 0;
    Duration linger{0};
    std::optional<TimePoint> reply_at;
  };

  bool obey();  // false: the line closed
  PeerReply execute(const PeerRequest& request);
  PeerReply add(std::uint32_t id, Fd fd, bool udp);
  void start_sending(Connection& connection, const PeerRequest& request);
  TimePoint prepare(Connection& connection, TimePoint now, short& events);
  void send_some(Connection& connection);
  void receive_some(Connection& connection);
  void wait_and_serve();

  Fd control_;
  Fd listener_;
  std::atomic<std::uint64_t>* bytes_sent_;
  bool paused_ = false;
  bool ended_ = false;
  std::map<std::uint32_t, Connection> connections_;
  std::vector<char> block_;
};

}  // namespace workload
