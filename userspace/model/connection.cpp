// SPDX-License-Identifier: MIT
#include "model/connection.h"

#include <algorithm>

namespace laggard::model {
namespace {

// A window is kept as at most this many looks; short intervals are thinned.
constexpr int kLooksPerWindow = 10;

}  // namespace

bool Connection::proves_emptiness(const SocketSample& sample) const
{
  if (sample.read_epoch != empty_epoch_ && sample.min_unread_bytes == 0U)
    return true;
  const bool window_closed = sample.transport == Transport::Tcp && sample.rcv_window_left < sample.rcv_mss;
  return sample.unread_bytes == 0 && !window_closed;
}

void Connection::observe(const SocketSample& sample, const ModelOptions& options)
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
    if (sample.min_unread_bytes == 0U)
      empty_epoch_ = sample.read_epoch;
  }
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

int Connection::moves_in_history() const
{
  int moves = 0;
  for (std::size_t i = 1; i < history_.size(); i++)
    moves += history_[i].copied_seq != history_[i - 1].copied_seq;
  return moves;
}

void Connection::set_holders(std::vector<ProcessId> holders, MonoTime when)
{
  holders_ = std::move(holders);
  holders_checked_ = when;
}

}  // namespace laggard::model
