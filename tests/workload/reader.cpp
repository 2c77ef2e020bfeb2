// SPDX-License-Identifier: MIT
// Everything that is one stream and one reader: slow-reader, never-reads, batch, bulk, peek, hoarder, cache, discard.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "scenario.h"

namespace workload {
namespace {

class Reader : public Scenario {
 public:
  explicit Reader(const Options& options) : plan_(options) {}

  void start(World& world) override;
  int watched(const World& world) const override { return on_arrival() && !done_ ? world.fd() : -1; }
  TimePoint wake() const override { return next_; }
  void step(World& world, bool readable, TimePoint now) override;

 private:
  bool on_arrival() const { return plan_.pace == Pace::arrival || plan_.pace == Pace::arrival_peek; }
  void read_once(World& world, int flags);
  void keep_once(World& world);

  Options plan_;
  bool done_ = false;  // end of stream, or reset
  TimePoint next_ = TimePoint::max();
  std::vector<std::unique_ptr<char[]>> kept_;
  std::size_t room_ = 0;  // left in the last chunk
};

void Reader::start(World& world)
{
  const Observed& socket = world.sockets().front();
  if (plan_.rate != 0) {
    world.send(socket, plan_.bytes_given ? plan_.bytes : kUnlimited, plan_.rate);
  } else if (plan_.udp) {
    for (std::uint64_t index = 0; index < plan_.count; index++)
      if (!world.send_datagram_and_wait(socket, plan_.size))
        throw Failure("datagram " + std::to_string(index) + " did not arrive");
  } else if (!world.send_and_wait(socket, plan_.bytes)) {
    throw Failure("only " + std::to_string(siocinq(world.fd())) + " of " + std::to_string(plan_.bytes) +
                  " bytes fit into the receive window; give --rate to stream instead");
  }
  if (plan_.pace == Pace::timed || plan_.pace == Pace::timed_drain)
    next_ = Clock::now() + plan_.every;
}

void Reader::read_once(World& world, int flags)
{
  std::vector<char>& buffer = world.scratch(plan_.bite);
  const ssize_t count = world.take(world.fd(), buffer.data(), plan_.bite, flags);
  done_ = count < 0 ? count != -EAGAIN : count == 0 && !plan_.udp;
  if (done_)
    next_ = TimePoint::max();
}

// Straight into memory that stays and that only the read touches, so that what is kept is what was read.
void Reader::keep_once(World& world)
{
  if (room_ == 0) {
    kept_.push_back(std::make_unique_for_overwrite<char[]>(plan_.size));
    room_ = plan_.size;
  }
  char* free = kept_.back().get() + (plan_.size - room_);
  const ssize_t count = world.take(world.fd(), free, std::min<std::size_t>(room_, plan_.bite));
  done_ = count <= 0;
  if (count <= 0)
    return;
  room_ -= static_cast<std::size_t>(count);
  world.totals().bytes_kept += static_cast<std::uint64_t>(count);
}

void Reader::step(World& world, bool readable, TimePoint now)
{
  const int fd = world.fd();
  if (done_ || fd < 0)
    return;
  if (on_arrival()) {
    if (!readable)
      return;
    if (plan_.keep != Keep::nothing && world.totals().bytes_kept < plan_.cap) {
      keep_once(world);
    } else if (plan_.keep == Keep::everything) {
      throw Failure("--cap is reached");
    } else {
      if (plan_.pace == Pace::arrival_peek)
        read_once(world, MSG_PEEK);
      read_once(world, 0);
    }
    return;
  }
  if (now < next_)
    return;
  next_ = std::max(next_ + plan_.every, now);
  if (plan_.pace == Pace::timed_drain) {
    const std::uint64_t before = world.totals().eagain;
    while (!done_ && world.totals().eagain == before)
      read_once(world, MSG_DONTWAIT);
    return;
  }
  // A blocking reader, but not one that blocks this loop: it looks whether there is something first.
  pollfd polled{fd, POLLIN, 0};
  if (::poll(&polled, 1, 0) > 0)
    read_once(world, 0);
}

}  // namespace

std::unique_ptr<Scenario> make_reader(const Options& options)
{
  return std::make_unique<Reader>(options);
}

}  // namespace workload
