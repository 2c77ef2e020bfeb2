// SPDX-License-Identifier: MIT
#include "source/live/sweep.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "identify/clock.h"

namespace laggard::source::live {
namespace {

constexpr std::size_t kReadBytes = 32 << 10;  // bpf_seq_read() gives at most 8 pages at a time
constexpr std::uint64_t kToTheEnd = std::numeric_limits<std::uint64_t>::max();

Result<Fd> open_iterator(bpf_link* link)
{
  Fd iterator{bpf_iter_create(bpf_link__fd(link))};
  if (!iterator)
    return errno_failure("cannot open a BPF iterator");
  return iterator;
}

// True: there is no more.
Result<bool> read_some(int iterator, RawTick& into)
{
  std::array<std::byte, kReadBytes> buffer;
  for (;;) {
    const ssize_t got = ::read(iterator, buffer.data(), buffer.size());
    if (got >= 0) {
      into.insert(into.end(), buffer.begin(), buffer.begin() + got);
      return got == 0;
    }
    if (errno != EINTR && errno != EAGAIN)
      return errno_failure("a BPF iterator failed");
  }
}

}  // namespace

Result<void> walk(bpf_link* link, RawTick& into)
{
  const auto iterator = open_iterator(link);
  if (!iterator)
    return tl::make_unexpected(iterator.error());
  for (;;)
    if (const auto ended = read_some(iterator->get(), into); !ended || *ended)
      return ended ? Result<void>{} : tl::make_unexpected(ended.error());
}

Result<void> Sweep::begin(Look& look, MonoTime now)
{
  auto iterator = open_iterator(link());
  if (!iterator)
    return tl::make_unexpected(iterator.error());
  look = {.iterator = std::move(*iterator), .number = ++number_, .began = now};
  return {};
}

Result<bool> Sweep::read(Look& look, Duration at_most, std::uint64_t until, RawTick& into)
{
  auto& shared = *skeleton_->bss;
  shared.sweep_number = look.number;
  shared.emit_holders = look.holders;
  shared.emit_pooled = look.pooled;
  shared.holder_shown = 0;
  shared.new_shown = 0;
  shared.visited = look.visited;
  const Duration begun = identify::thread_cpu();
  for (;;) {
    const auto ended = read_some(look.iterator.get(), into);
    look.visited = shared.visited;
    if (!ended || *ended)
      look.iterator.reset();
    if (!ended || *ended || look.visited >= until || identify::thread_cpu() - begun >= at_most)
      return ended;
  }
}

Result<Sweep::Step> Sweep::go_on(MonoTime now, const Options& options, RawTick& into)
{
  const bool whole = options.at_most == Duration::max() || !shows_holders();
  if (whole) {
    first_ = {};
    again_ = {};
    slices_.clear();
  }
  skeleton_->bss->emit_everything = options.everything;
  skeleton_->bss->new_at_most = options.new_at_most;
  if (may_look_again(now))
    return look_again(now, into);

  if (!is_under_way()) {
    if (auto begun = begin(first_, now); !begun)
      return tl::make_unexpected(begun.error());
    first_.holders = shows_holders();
    first_.pooled = options.pooled;
    skeleton_->bss->mptcp_waits = 0;
  }
  const bool begins = first_.visited == 0;
  const auto ended = read(first_, whole ? Duration::max() : options.at_most, kToTheEnd, into);
  if (!ended)
    return tl::make_unexpected(ended.error());
  if (!begins || !*ended)
    slices_.push_back({now, first_.visited, begins, *ended});
  if (!*ended)
    return Step{};
  latest_ = now - first_.began;
  if (latest_ < ripens_after_)  // the next one comes in time
    slices_.clear();
  if (skeleton_->bss->mptcp_waits != 0 && skeleton_->links.sweep_waiting != nullptr)
    if (auto walked = walk(skeleton_->links.sweep_waiting, into); !walked)
      return tl::make_unexpected(walked.error());
  return Step{.ended = true, .pooled = first_.pooled, .began = first_.began, .visited = first_.visited};
}

Result<Sweep::Step> Sweep::look_again(MonoTime now, RawTick& into)
{
  const Slice slice = slices_.front();
  slices_.pop_front();
  if (slice.begins)
    if (auto begun = begin(again_, now); !begun)
      return tl::make_unexpected(begun.error());
  // Fewer are left than were there: it has met them all.
  if (again_.iterator)
    if (const auto ended = read(again_, Duration::max(), slice.ends ? kToTheEnd : slice.visited, into); !ended)
      return tl::make_unexpected(ended.error());
  return Step{.looked_again = true};
}

Duration Sweep::period(MonoTime now) const
{
  return std::max(latest_, is_under_way() ? now - first_.began : Duration{});
}

}  // namespace laggard::source::live
