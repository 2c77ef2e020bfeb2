// SPDX-License-Identifier: MIT
// The other end: a separate process that does what it is asked over a socket pair, and ends when that closes.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "options.h"
#include "system.h"

namespace workload {

enum class PeerOp : std::uint32_t { listen, accept, connect, send, finish, close, answer, pause };

// What the peer does with bytes that arrive on a connection by themselves.
enum class Answer : std::uint32_t {
  none,        // leaves them unread
  discard,
  echo,
  reply,       // after `size` bytes: waits `linger_ns`, sends `size` bytes, closes
  reply_at_eof,  // the same, but after the end of the request stream
};

// One request; which fields count depends on the op.
struct PeerRequest {
  PeerOp op = PeerOp::listen;
  std::uint32_t id = 0;     // chosen by the asker, names the connection from then on
  std::uint64_t bytes = 0;  // send: adds so many bytes to what is to be sent; kUnlimited
  std::uint64_t rate = kUnlimited;
  std::uint64_t size = 0;   // of a datagram, or of request and reply
  std::int64_t linger_ns = 0;
  Answer answer = Answer::none;
  std::uint32_t flag = 0;   // send: FIN with the last byte; connect: UDP; pause: on or off
  Address address{};        // connect: where to; listen: on what
};

struct PeerReply {
  std::int32_t error = 0;  // errno
  Address address{};       // of the peer's end
};

class Peer {
 public:
  explicit Peer(const Options& options);  // forks
  ~Peer() { end(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  Address ask(const PeerRequest& request);  // returns when the op is done, or for `send` begun
  pid_t tgid() const { return tgid_; }
  std::uint64_t bytes_sent() const { return bytes_sent_->load(); }
  void hang_up() { control_.reset(); }   // this process's copy of the line only
  void disown() { child_ = 0; }          // in a forked child: not ours to reap
  void end();                            // idempotent; the peer is gone and reaped afterwards

 private:
  Fd control_;
  pid_t tgid_ = 0;
  pid_t child_ = 0;
  std::atomic<std::uint64_t>* bytes_sent_ = nullptr;  // a page shared with the peer
};

}  // namespace workload
