// SPDX-License-Identifier: MIT
// One socket over time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/history.h"
#include "model/lateness.h"
#include "model/losses.h"
#include "model/stream_age.h"
#include "model/tick.h"

namespace laggard::model {

struct ModelOptions {
  Duration window = std::chrono::seconds(5);         // how far back the standing queue's history goes: --hold
  Duration lag = std::chrono::seconds(1);            // late is older than this: --lag
  Duration late_window = std::chrono::seconds(30);   // how far back lateness goes: --late-window
  Duration drop_window = std::chrono::seconds(60);   // how far back bursts of loss go: --drop-window
  Duration memory_window = std::chrono::seconds(30); // the same for memory
  Duration idle = std::chrono::seconds(30);          // unused from then on; how far back pools are remembered: --idle
  std::size_t max_connections = 200'000;             // beyond it new ones are refused, and counted
};

// One look at a receive queue that was not empty.
struct QueueLook {
  MonoTime time;
  float lag_seconds = 0;
  std::uint32_t unread_bytes = 0;
  std::uint32_t least_bytes = 0;  // since the look before, as far as reads tell
  std::uint32_t most_bytes = 0;
  std::uint32_t rcv_nxt = 0;
  std::uint32_t copied_seq = 0;
};

// What was read while a queue stood, from one look to another: at most twice ModelOptions::window.
struct ReadSpan {
  Duration span{};
  ReadCounts before;
  ReadCounts after;
  std::uint32_t consumed_bytes = 0;
  std::uint32_t arrived_bytes = 0;
};

// One look at a socket that loses what arrives: a UDP socket, or a listener whose accept queue overflows.
struct DropLook {
  MonoTime time;
  std::uint64_t drops = 0;
  std::uint32_t arrived = 0;   // UDP: datagrams that were not dropped, mod 2^32
  bool queue_full = false;     // listening: no child would fit
};

// One look at a send queue.
struct SendLook {
  MonoTime time;
  Duration lag{};              // age of the oldest byte that the peer has not taken; 0 = none waits
  Duration rwnd_limited{};     // total
};

class Connection {
 public:
  // `sample` must not be older than the last one.
  void observe(const FullSample& sample, const ModelOptions& options);

  // Nothing has changed.
  void observe_still(MonoTime now, const ModelOptions& options);

  // The tick of the model that showed it last.
  std::uint32_t shown_in = 0;
  MonoTime last_shown() const { return last_shown_; }

  // A sweep did not show it, so it is not read, has lost nothing since it was shown, and its queue is empty.
  void observe_absence(MonoTime now, const ModelOptions& options);
  // It has lost datagrams or was late, so lately that what comes next belongs to the same trouble.
  bool outlives_absence(const ModelOptions& options) const;
  bool is_absent() const { return absences_ > 0; }

  const SocketSample& latest() const { return latest_; }
  MonoTime first_seen() const { return first_seen_; }
  const StreamAge& receive() const { return receive_; }
  const StreamAge& send() const { return send_; }

  // The receive queue has not been seen empty since then; unknown where it is empty now. A read that found nothing (EAGAIN)
  // and the exact minimum after reads count as seeing; but for EAGAIN, emptiness while our own window is shut does not: what
  // had room was taken, and the rest waits at the peer (DESIGN 5.2).
  MonoTime standing_since() const { return standing_since_; }
  // Looks since standing_since or the window's start, whichever is later, and the last one before the window.
  const Looks<QueueLook>& history() const { return history_; }
  // How often the consumed position moved between two looks of `history`.
  int moves_in_history() const;
  // TCP.
  ReadSpan reads_in_history() const;

  // After the samples of a tick: several of one tick are one look.
  void end_tick(const ModelOptions& options);

  // Looks of the window, the last one before it, and at least the last five intervals. Empty where nothing was dropped lately:
  // most sockets never drop, and pay nothing.
  const Looks<DropLook>& drop_history() const;
  // UDP: the same over ModelOptions::drop_window.
  const LossHistory& losses() const;
  // TCP, of what a process has: see there. What a read left behind does not count (SocketSample::is_leftover).
  const Lateness& lateness() const { return lateness_; }
  // Looks of the window and the last one before it, since `sending_since`, when bytes were first seen that the peer had not
  // taken. Empty where it took all of them for a window.
  const Looks<SendLook>& send_history() const { return send_history_; }
  MonoTime sending_since() const { return sending_since_; }
  // How old the oldest byte was then that the peer had not taken, at least, as far back as send_history() goes.
  Duration send_lag_at(MonoTime when) const;
  // Listening: the accept queue has not been seen empty since then; unknown where it is empty now.
  MonoTime backlog_since() const { return backlog_since_; }

  // Bytes read by user space over the last half to whole memory window.
  std::uint64_t recent_read_bytes() const { return latest_.read_bytes - marks_[0].read_bytes; }
  std::uint64_t recent_drops() const { return latest_.drops - marks_[0].drops; }

  // All processes that hold the socket, as of the last walk; unknown time: never walked since we know the socket.
  std::span<const ProcessId> holders() const
  {
    return owner_alone_ ? std::span(&latest_.owner, 1) : std::span<const ProcessId>(holders_);
  }
  MonoTime holders_checked() const { return holders_checked_; }
  // The first one has read at some walk: it did not just open or inherit the socket.
  bool first_holder_reads() const { return first_holder_reads_; }
  void set_holders(std::vector<ProcessId> holders, bool first_reads, MonoTime when);

  // Who to name: the first holder, else who connected, listened or read first.
  ProcessId process() const { return holders_.empty() ? latest_.owner : holders_.front(); }

 private:
  struct Mark {
    MonoTime time;
    std::uint64_t read_bytes = 0;
    std::uint64_t drops = 0;
  };
  struct ReadMark {
    MonoTime time;
    std::uint32_t rcv_nxt = 0;
    std::uint32_t copied_seq = 0;
    ReadCounts counts;
  };
  // Of sockets that can lose what arrives.
  struct Losing {
    DropLook last;
    Looks<DropLook> history;
    LossHistory losses;
  };
  void look(const SocketSample& sample, const SizeHistogram* sizes, const ModelOptions& options);
  void look_at_reads(const SocketSample& sample, const SizeHistogram& sizes, const ModelOptions& options);
  void look_at_losses(const ModelOptions& options);
  void observe_receive(const SocketSample& sample, const ModelOptions& options);
  bool proves_emptiness(const SocketSample& sample) const;
  void forget_history();

  // Many at once are stuck in an incident: what most of them do not need is not in here.
  SocketSample latest_;
  MonoTime first_seen_;
  MonoTime standing_since_;
  StreamAge receive_;
  StreamAge send_;
  Looks<QueueLook> history_;
  std::vector<ReadMark> read_marks_;  // of a queue that stands: the first, the next first once it is old enough, the newest
  std::array<Mark, 2> marks_{};
  MonoTime ticked_;  // the sample that the latest end_tick() has met
  MonoTime last_shown_;
  std::unique_ptr<Losing> losing_;
  Lateness lateness_;
  MonoTime waiting_since_;  // of the oldest unread byte, as likely earlier as later
  Looks<SendLook> send_history_;
  MonoTime sending_since_;
  MonoTime backlog_since_;
  std::vector<ProcessId> holders_;  // unless it is the owner alone
  MonoTime holders_checked_;
  std::uint32_t absences_ = 0;     // since last_shown_
  std::uint32_t empty_epoch_ = 0;  // the epoch whose minimum of 0 was already taken into account
  bool first_holder_reads_ = false;
  bool owner_alone_ = false;
};

}  // namespace laggard::model
