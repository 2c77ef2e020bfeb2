// SPDX-License-Identifier: MIT
// One look at all sockets. Where that costs more than a tick can pay for, it is taken in slices over many ticks, and each slice
// is looked at again as soon as a finding could be made of it: else whoever has 100 000 sockets would wait for two whole sweeps.
#pragma once

#include <cstdint>
#include <deque>

#include "base/fd.h"
#include "base/result.h"
#include "source/decode.h"
#include "source/live/loader.h"

namespace laggard::source::live {

class Sweep {
 public:
  // `ripens_after`: what must be seen for so long is a finding.
  Sweep(Skeleton& skeleton, Duration ripens_after) : skeleton_(skeleton), ripens_after_(ripens_after) {}

  struct Options {
    Duration at_most = Duration::max();  // CPU time; a walk over sockets, not over files, has but one slice
    bool everything = false;
    bool pooled = false;  // of the sweep that begins now
    std::uint64_t new_at_most = 0;
  };
  struct Step {
    bool ended = false;  // all sockets have been looked at since `began`
    bool looked_again = false;
    bool pooled = false;  // idle ones, too
    MonoTime began{};
    std::uint64_t visited = 0;  // by this sweep
  };
  // Goes on, or begins. A failure ends the sweep.
  Result<Step> go_on(MonoTime now, const Options& options, RawTick& into);

  bool is_under_way() const { return static_cast<bool>(first_.iterator); }
  Duration ripens_after() const { return ripens_after_; }
  // From one look at a socket to the next, where that takes more than one slice.
  Duration period(MonoTime now) const;

  bool shows_holders() const { return skeleton_->links.sweep == nullptr; }
  bpf_link* link() const { return shows_holders() ? skeleton_->links.sweep_files : skeleton_->links.sweep; }

 private:
  // The kernel keeps the place: a task and a descriptor. Nothing is held between two reads.
  struct Look {
    Fd iterator;
    std::uint32_t number = 0;
    std::uint64_t visited = 0;
    bool holders = false;
    bool pooled = false;
    MonoTime began;
  };
  struct Slice {
    MonoTime time;
    std::uint64_t visited;  // from the beginning of the sweep to the end of this
    bool begins, ends;      // the sweep
  };
  Result<void> begin(Look& look, MonoTime now);
  Result<Step> look_again(MonoTime now, RawTick& into);
  // True: at its end. At most so much CPU time, and not beyond so many sockets, both but for one read of the kernel.
  Result<bool> read(Look& look, Duration at_most, std::uint64_t until, RawTick& into);
  bool may_look_again(MonoTime now) const { return !slices_.empty() && now - slices_.front().time >= ripens_after_; }

  Skeleton& skeleton_;
  Duration ripens_after_;
  Look first_, again_;
  std::deque<Slice> slices_;  // not looked at again yet
  std::uint32_t number_ = 0;
  Duration latest_{};  // how long the last sweep of more than one slice took
};

// All records of an iterator.
Result<void> walk(bpf_link* link, RawTick& into);

}  // namespace laggard::source::live
