// SPDX-License-Identifier: MIT
// The observed process: its sockets, its peer, and an exact account of what it did to them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <utility>
#include <vector>

#include "options.h"
#include "peer.h"

namespace workload {

struct Totals {
  std::uint64_t bytes_read = 0;
  std::uint64_t reads = 0;       // calls that returned 0 or more bytes, peeks and splices not counted
  std::uint64_t peeks = 0;
  std::uint64_t eagain = 0;      // calls that returned EAGAIN
  std::uint64_t zero_reads = 0;  // of `reads`: those that returned 0 on TCP
  std::uint64_t bytes_spliced = 0;
  std::uint64_t bytes_kept = 0;  // held in memory now
  std::uint64_t visits = 0;      // connections opened, used and closed
};

struct Observed {
  Fd fd;
  std::uint32_t id = 0;  // the peer's name for it
};

class World {
 public:
  explicit World(const Options& options);

  const Options& options() const { return options_; }
  Totals& totals() { return totals_; }
  Peer& peer() { return peer_; }
  std::vector<Observed>& sockets() { return sockets_; }
  int fd() const { return sockets_.empty() ? -1 : sockets_.front().fd.get(); }  // of the first socket

  Observed& open();  // one more connection, adopted into sockets()
  void let_wait();   // a client connects, sends `bytes`, and is not accepted
  void ask(PeerOp op, const Observed& socket);
  void send(const Observed& socket, std::uint64_t bytes, std::uint64_t rate, bool finish = false);
  // Sends and waits until all of it has arrived; false when the deadline passes.
  bool send_and_wait(const Observed& socket, std::uint64_t bytes, bool finish = false);
  bool send_datagram_and_wait(const Observed& socket, std::uint64_t size);  // arrived, or counted as dropped

  // One call to the kernel, counted. -errno on failure; 0 means the end for TCP.
  ssize_t take(int fd, char* buffer, std::size_t size, int flags = 0);
  std::vector<char>& scratch(std::size_t size);

  // The child goes on with everything; the parent closes its sockets, waits, and exits with the child's status.
  void move_to_child();

  // What the scenario does by itself, for waits that last until it has done more of it.
  void set_idle(std::function<void()> idle) { idle_ = std::move(idle); }
  void idle() const
  {
    if (idle_)
      idle_();
  }

  void freeze_identity();  // remembers the facts of the first socket for the ready line
  Line ready() const;
  Line stat() const;
  void close_all();

 private:
  void prepare_listener();

  Options options_;
  std::uint64_t netns_;
  Peer peer_;
  Fd listener_;  // of the observed end, role accepted
  Address target_{};
  std::vector<Observed> sockets_;
  std::uint32_t next_id_ = 1;
  Totals totals_;
  Line identity_;
  pid_t opener_tgid_ = 0;
  std::vector<char> scratch_;
  std::function<void()> idle_;
};

void guard_lifetime(Duration lifetime);

}  // namespace workload
