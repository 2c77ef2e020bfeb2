// SPDX-License-Identifier: MIT
#include "model/connection.h"

#include <algorithm>

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

void Connection::look(const SocketSample& sample, const SizeHistogram* sizes, const ModelOptions& options)
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
    forget_history();
    standing_since_ = {};
  }
  if (sample.min_unread_bytes == 0U)
    empty_epoch_ = sample.read_epoch;
  if (sample.unread_bytes > 0) {
    if (!known(standing_since_))
      standing_since_ = sample.time;
    history_.add({.time = sample.time,
                  .lag_seconds = static_cast<float>(seconds(receive_.lag(sample.time))),
                  .unread_bytes = sample.unread_bytes,
                  .least_bytes = std::min(sample.unread_bytes, sample.min_unread_bytes.value_or(sample.unread_bytes)),
                  .most_bytes = std::max(sample.unread_bytes, sample.max_unread_bytes),
                  .rcv_nxt = sample.rcv_nxt,
                  .copied_seq = sample.copied_seq},
                 options.window);
    if (sizes != nullptr && sample.transport == Transport::Tcp)
      look_at_reads(sample, *sizes, options);
  }

  if (sample.time - marks_[1].time >= options.memory_window / 2) {
    marks_[0] = marks_[1];
    marks_[1] = {sample.time, sample.read_bytes, sample.drops};
  }
  if (owner_alone_ && sample.owner != latest_.owner) {
    holders_ = {latest_.owner};
    owner_alone_ = false;
  }
  latest_ = sample;
}

void Connection::forget_history()
{
  history_.clear();
  std::vector<ReadMark>{}.swap(read_marks_);
}

void Connection::look_at_reads(const SocketSample& sample, const SizeHistogram& sizes, const ModelOptions& options)
{
  const ReadMark now{sample.time, sample.rcv_nxt, sample.copied_seq,
                     {sample.reads, sample.read_bytes, sample.closed_window_reads, sample.run_reads, sample.run_bytes, sizes}};
  if (read_marks_.size() == 3 && now.time - read_marks_[1].time >= options.window)
    read_marks_.erase(read_marks_.begin());
  // Most that stand are not read at all, and have one mark.
  if (read_marks_.size() >= 2 && read_marks_.front().counts.reads == now.counts.reads)
    read_marks_.resize(1);
  if (read_marks_.empty() || (read_marks_.size() == 1 && read_marks_.front().counts.reads != now.counts.reads))
    read_marks_.push_back(now);
  else if (read_marks_.size() == 2 && read_marks_.back().time - read_marks_.front().time >= options.window)
    read_marks_.push_back(now);
  else if (read_marks_.size() > 1)
    read_marks_.back() = now;
  else
    read_marks_.front() = now;
}

void Connection::observe_receive(const SocketSample& sample, const ModelOptions& options)
{
  QueueStep step{.begin = latest_.time, .end = sample.time, .unread_bytes = sample.unread_bytes, .copied_seq = sample.copied_seq};
  if (waits_for_a_reader(latest_))
    step.oldest_before = waiting_since_;
  const MonoTime oldest_before = receive_.oldest();
  const bool consumed = known(latest_.time) && sample.copied_seq != latest_.copied_seq;
  // What waited was taken by the first read of the epoch where that came after the last look. The announcement of an epoch's first
  // read tells of the reads before it: where there was none until then. Else there were reads that nobody told of one by one, or
  // splice, which leaves no time: what waited may have been taken at once.
  const bool told = known(sample.first_read_at);
  if (consumed && told && sample.first_read_at > step.begin)
    step.consumed = std::min(sample.first_read_at, step.end);
  else if (consumed)
    step.consumed = sample.first_read && (!told || sample.last_read <= step.begin) ? step.end : step.begin;

  receive_.observe(sample.time, sample.rcv_nxt, sample.copied_seq, sample.last_arrival, sample.older_than_observer);
  // In an accept queue it was the backlog that waited.
  if (latest_.unaccepted && !sample.unaccepted) {
    receive_.restart(sample.time);
    standing_since_ = {};
    forget_history();
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

void Connection::observe(const FullSample& sample, const ModelOptions& options)
{
  look(sample, &sample.sizes, options);
  last_shown_ = sample.time;
  absences_ = 0;
}

void Connection::observe_still(MonoTime now, const ModelOptions& options)
{
  SocketSample again = latest_;
  again.time = now;
  if (again.rwnd_limits)
    again.rwnd_limited += now - latest_.time;
  look(again, nullptr, options);
  last_shown_ = now;
  absences_ = 0;
}

void Connection::observe_absence(MonoTime now, const ModelOptions& options)
{
  SocketSample drained = latest_;
  drained.time = now;
  drained.copied_seq = drained.rcv_nxt;
  drained.unread_bytes = drained.rmem_bytes = drained.queued_packets = 0;
  look(drained, nullptr, options);
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
  if (latest_.time == ticked_)
    return;
  if (!latest_.is_listener() || latest_.ack_backlog == 0)
    backlog_since_ = {};
  else if (!known(backlog_since_))
    backlog_since_ = latest_.time;
  if (latest_.transport == Transport::Udp || latest_.is_listener())
    look_at_losses(options);

  if (!send_.empty() && !known(sending_since_))
    sending_since_ = latest_.time;
  if (known(sending_since_))
    send_history_.add({latest_.time, send_.lag(latest_.time), latest_.rwnd_limited}, options.window);
  if (std::ranges::all_of(send_history_, [](const SendLook& one) { return one.lag == Duration{}; }) && send_.empty()) {
    send_history_.clear();
    sending_since_ = {};
  }
  ticked_ = latest_.time;
}

void Connection::look_at_losses(const ModelOptions& options)
{
  const DropLook look{latest_.time, latest_.drops, latest_.rcv_nxt,
                      latest_.is_listener() && latest_.ack_backlog >= std::max(latest_.max_ack_backlog, 1U)};
  if (!losing_) {
    losing_ = std::make_unique<Losing>();
    losing_->last = look;
    return;
  }
  auto& [last, history, losses] = *losing_;
  if (latest_.transport == Transport::Udp)
    losses.observe({last.time, last.drops, last.arrived}, {look.time, look.drops, look.arrived}, options.window / 2,
                   options.drop_window);
  // What was dropped before the first look may have been dropped years ago.
  if (history.empty() && look.drops != last.drops)
    history.add(last, options.window, kDropLooks);
  if (!history.empty())
    history.add(look, options.window, kDropLooks);
  if (history.size() >= kDropLooks && history.front().drops == look.drops)
    history.clear();
  last = look;
}

const Looks<DropLook>& Connection::drop_history() const
{
  static const Looks<DropLook> kNone;
  return losing_ ? losing_->history : kNone;
}

const LossHistory& Connection::losses() const
{
  static const LossHistory kNone;
  return losing_ ? losing_->losses : kNone;
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

ReadSpan Connection::reads_in_history() const
{
  const auto between = [](const auto& first, const auto& last) {
    return ReadSpan{.span = last.time - first.time,
                    .before = {},
                    .after = {},
                    .consumed_bytes = last.copied_seq - first.copied_seq,
                    .arrived_bytes = last.rcv_nxt - first.rcv_nxt};
  };
  if (history_.empty())
    return {};
  if (read_marks_.size() < 2)
    return between(history_.front(), history_.back());
  ReadSpan reads = between(read_marks_.front(), read_marks_.back());
  reads.before = read_marks_.front().counts;
  reads.after = read_marks_.back().counts;
  return reads;
}

void Connection::set_holders(std::vector<ProcessId> holders, bool first_reads, MonoTime when)
{
  owner_alone_ = holders.size() == 1 && holders.front() == latest_.owner;
  holders_ = owner_alone_ ? std::vector<ProcessId>{} : std::move(holders);
  first_holder_reads_ = first_reads;
  holders_checked_ = when;
}

}  // namespace laggard::model
