// SPDX-License-Identifier: MIT
#include "model/connection.h"

#include <algorithm>

namespace laggard::model {
namespace {

// A window is kept as at most this many looks; short intervals are thinned.
constexpr int kLooksPerWindow = 10;
constexpr std::size_t kDropLooks = 6;  // five intervals, however long they are

// The newest look is always there; the one before it goes if the two are closer than the window needs.
template <class Look>
void remember(std::vector<Look>& history, const Look& look, Duration window, std::size_t least)
{
  const std::size_t n = history.size();
  if (n >= 2 && history[n - 1].time - history[n - 2].time < window / kLooksPerWindow)
    history.pop_back();
  history.push_back(look);
  std::size_t old = 0;
  while (history.size() - old > least && history[old + 1].time <= look.time - window)
    old++;
  history.erase(history.begin(), history.begin() + static_cast<std::ptrdiff_t>(old));
}

// Gives the memory back: clear() would keep it.
template <class Look>
void forget(std::vector<Look>& history)
{
  std::vector<Look>{}.swap(history);
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
  receive_.observe(sample.time, sample.rcv_nxt, sample.copied_seq, sample.last_arrival, older);
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

bool Connection::may_lose_again(const ModelOptions& options) const
{
  return latest_.transport == Transport::Udp && latest_.drops > 0 &&
         (absences_ < kDropLooks || latest_.time - last_shown_ < options.window);
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
