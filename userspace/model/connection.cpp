// SPDX-License-Identifier: MIT
#include "model/connection.h"

#include <algorithm>

#include "model/history.h"

namespace laggard::model {
namespace {

constexpr std::size_t kDropLooks = 6;  // five intervals, however long they are

// What somebody should take: a process has it, and it is no leftover.
bool waits_for_a_reader(const SocketSample& sample)
{
  return sample.transport == Transport::Tcp && sample.has_file && sample.unread_bytes > 0 && !sample.is_leftover();
}

}  // namespace

bool Connection::proves_emptiness(const SocketSample& sample) const
{
  if (sample.empty_reads != latest_.empty_reads)
    return true;  // it asked for more, and there was none
  const bool was_empty = sample.read_epoch != empty_epoch_ && sample.min_unread_bytes == 0U;
  const bool window_closed = sample.transport == Transport::Tcp && sample.rcv_window_left < sample.rcv_mss;
  return (was_empty || sample.unread_bytes == 0) && !window_closed;
}

void Connection::look(const SocketSample& sample, const ModelOptions& options)
{
  const bool first_look = !known(first_seen_);
  if (first_look) {
    first_seen_ = sample.time;
    marks_.fill({sample.time, sample.read_bytes, sample.drops});
  }
  const bool older = sample.older_than_observer;
  observe_receive(sample, options);
  send_.observe(sample.time, sample.write_seq, sample.snd_una, {}, older);

  if (proves_emptiness(sample)) {
    history_.clear();
    lags_.clear();
    standing_since_ = {};
  }
  if (sample.min_unread_bytes == 0U)
    empty_epoch_ = sample.read_epoch;
  if (sample.unread_bytes > 0) {
    if (!known(standing_since_))
      standing_since_ = sample.time;
    // The newest look is always there; the one before it goes if the two are closer than the window needs.
    const std::size_t n = history_.size();
    if (n >= 2 && history_[n - 1].time - history_[n - 2].time < options.window / kLooksPerWindow) {
      history_.pop_back();
      lags_.pop_back();
    }
    history_.push_back(sample);
    lags_.push_back(seconds(receive_.lag(sample.time)));
    while (history_.size() > 2 && history_[1].time <= sample.time - options.window) {
      history_.pop_front();
      lags_.pop_front();
    }
  }

  if (sample.time - marks_[1].time >= options.memory_window / 2) {
    marks_[0] = marks_[1];
    marks_[1] = {sample.time, sample.read_bytes, sample.drops};
  }
  latest_ = sample;
}

void Connection::observe_receive(const SocketSample& sample, const ModelOptions& options)
{
  QueueStep step{.begin = latest_.time, .end = sample.time, .unread_bytes = sample.unread_bytes, .copied_seq = sample.copied_seq};
  if (waits_for_a_reader(latest_))
    step.oldest_before = waiting_since_;
  const MonoTime oldest_before = receive_.oldest();
  const bool consumed = known(latest_.time) && sample.copied_seq != latest_.copied_seq;
  // The announcement of an epoch's first read tells of the reads before it, so until then nothing was taken. Else there were
  // reads that nobody told of one by one, or splice, which leaves no time: what waited may have been taken at once.
  if (consumed)
    step.consumed = sample.first_read ? step.end : step.begin;

  receive_.observe(sample.time, sample.rcv_nxt, sample.copied_seq, sample.last_arrival, sample.older_than_observer);
  // In an accept queue it was the backlog that waited.
  if (latest_.unaccepted && !sample.unaccepted) {
    receive_.restart(sample.time);
    standing_since_ = {};
    history_.clear();
    lags_.clear();
  }
  // More came after a leftover: the reader is asked for since then.
  if (!consumed && latest_.is_leftover() && !sample.is_leftover())
    receive_.restart(std::clamp(sample.last_arrival, latest_.time, sample.time));

  // The oldest of what came between two looks came at the later one or before: in the middle, for a share of time, else each
  // spell would be short of a look.
  if (receive_.oldest() != oldest_before) {
    const MonoTime earliest = std::min(std::max(latest_.time, sample.last_read), receive_.oldest());
    waiting_since_ = known(latest_.time) ? earliest + (receive_.oldest() - earliest) / 2 : receive_.oldest();
  }
  if (waits_for_a_reader(sample))
    step.oldest_after = waiting_since_;
  if (known(step.begin))
    lateness_.observe(step, options.lag, options.late_window);
}

void Connection::observe(const SocketSample& sample, const ModelOptions& options)
{
  look(sample, options);
  last_shown_ = sample.time;
  absences_ = 0;
}

void Connection::observe_absence(MonoTime now, const ModelOptions& options)
{
  SocketSample drained = latest_;
  drained.time = now;
  drained.copied_seq = drained.rcv_nxt;
  drained.unread_bytes = drained.rmem_bytes = drained.queued_packets = 0;
  look(drained, options);
  absences_++;
}

bool Connection::outlives_absence(const ModelOptions& options) const
{
  if (latest_.transport == Transport::Tcp)
    return !lateness_.looks().empty();
  return latest_.drops > 0 &&
         (absences_ < kDropLooks || latest_.time - last_shown_ < std::max(options.window, options.drop_window));
}

void Connection::end_tick(const ModelOptions& options)
{
  if (latest_.time == last_look_.time)
    return;
  const bool listener = latest_.is_listener();
  if (!listener || latest_.ack_backlog == 0)
    backlog_since_ = {};
  else if (!known(backlog_since_))
    backlog_since_ = latest_.time;

  const DropLook look{latest_.time, latest_.drops, latest_.rcv_nxt,
                      listener && latest_.ack_backlog >= std::max(latest_.max_ack_backlog, 1U)};
  if (latest_.transport == Transport::Udp && known(last_look_.time))
    losses_.observe({last_look_.time, last_look_.drops, last_look_.arrived}, {look.time, look.drops, look.arrived},
                    options.window / 2, options.drop_window);
  if (latest_.transport == Transport::Udp || listener) {
    // What was dropped before the first look may have been dropped years ago.
    if (drop_history_.empty() && known(last_look_.time) && look.drops != last_look_.drops)
      drop_history_.push_back(last_look_);
    if (!drop_history_.empty())
      remember(drop_history_, look, options.window, kDropLooks);
    if (drop_history_.size() >= kDropLooks && drop_history_.front().drops == look.drops)
      forget(drop_history_);
  }

  if (!send_.empty() && !known(sending_since_))
    sending_since_ = latest_.time;
  if (known(sending_since_))
    remember(send_history_, {latest_.time, send_.lag(latest_.time), latest_.rwnd_limited}, options.window, 2);
  if (std::ranges::all_of(send_history_, [](const SendLook& one) { return one.lag == Duration{}; }) && send_.empty()) {
    forget(send_history_);
    sending_since_ = {};
  }
  last_look_ = look;
}

Duration Connection::send_lag_at(MonoTime when) const
{
  for (const SendLook& look : send_history_)
    if (look.time >= when)
      return std::max(look.lag - (look.time - when), Duration{});
  return send_history_.empty() ? Duration{} : send_history_.back().lag;
}

int Connection::moves_in_history() const
{
  int moves = 0;
  for (std::size_t i = 1; i < history_.size(); i++)
    moves += history_[i].copied_seq != history_[i - 1].copied_seq;
  return moves;
}

void Connection::set_holders(std::vector<ProcessId> holders, bool first_reads, MonoTime when)
{
  holders_ = std::move(holders);
  first_holder_reads_ = first_reads;
  holders_checked_ = when;
}

}  // namespace laggard::model
