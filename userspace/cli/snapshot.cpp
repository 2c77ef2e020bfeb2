// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "cli/commands.h"
#include "cli/live_loop.h"
#include "cli/session.h"
#include "source/decode.h"

namespace laggard::cli {
namespace {

// What one look can tell: no reads are traced, so nothing of the past but what the kernel keeps itself.
constexpr std::array<std::string_view, 3> kFeeds = {"sweep", "holders", "processes"};

bool passes(const detect::Filter& filter, const output::SocketLine& line)
{
  const auto allows = [](const auto& set, const auto& value) { return set.empty() || set.contains(value); };
  const model::SocketSample& sample = line.sample;
  const bool port = filter.ports.empty() || filter.ports.contains(sample.tuple.local.port) ||
                    filter.ports.contains(sample.tuple.peer.port);
  const bool pid = filter.tgids.empty() || std::ranges::any_of(line.holders, [&](std::uint32_t holder) {
                     return filter.tgids.contains(holder);
                   });
  return port && pid && allows(filter.netns, sample.netns) && allows(filter.cgroup_ids, sample.cgroup_id) &&
         allows(filter.comms, line.process.comm);
}

// Worth a line without --all: somebody waits for something.
bool is_notable(const model::SocketSample& sample)
{
  if (sample.is_listener())
    return sample.ack_backlog > 0;
  return sample.unread_bytes > 0 || sample.queued_packets > 0 || sample.write_seq != sample.snd_una || sample.drops > 0 ||
         sample.state == model::TcpState::CloseWait || sample.state == model::TcpState::FinWait1 ||
         sample.state == model::TcpState::FinWait2;
}

}  // namespace

int run_snapshot(const Options& options)
{
  auto source = source::live::LiveSource::open(
      {.max_cpu = 1, .max_memory = UINT64_MAX, .forced_hooks = options.hooks, .feeds = {kFeeds.begin(), kFeeds.end()}, .pools_period = {}, .pairs = {},
       .command_lines = options.command_lines});
  if (!source) {
    std::fprintf(stderr, "laggard: cannot observe: %s\n", source.error().message().c_str());
    return kCannotObserve;
  }
  auto raw = (*source)->tick(source::live::LiveSource::Look::All, options.everything);
  auto tick = raw ? source::decode(*raw) : tl::make_unexpected(raw.error());
  if (!tick) {
    std::fprintf(stderr, "laggard: cannot observe: %s\n", tick.error().message().c_str());
    return kCannotObserve;
  }
  const auto sink = output::make_sink(sink_options(options), describe_observer((*source)->plan().choices));

  std::map<std::uint64_t, std::vector<std::uint32_t>> holders;
  for (const model::Holder& holder : tick->holders)
    if (std::vector<std::uint32_t>& pids = holders[holder.cookie]; std::ranges::find(pids, holder.process.tgid) == pids.end())
      pids.push_back(holder.process.tgid);
  std::map<std::uint32_t, const model::ProcessSample*> processes;
  for (const model::ProcessSample& process : tick->processes)
    processes[process.id.tgid] = &process;

  std::map<std::pair<model::ProcessId, std::uint64_t>, const model::Workload*> workloads;
  for (const model::WorkloadSample& sample : tick->workloads)
    workloads[{sample.process, sample.process ? 0 : sample.cgroup_id}] = &sample.workload;

  std::size_t shown = 0;
  std::ranges::stable_sort(tick->sockets, std::greater{}, &model::SocketSample::unread_bytes);
  for (const model::SocketSample& sample : tick->sockets) {
    if (!options.everything && !is_notable(sample))
      continue;
    output::SocketLine line;
    line.time = tick->wall_time;
    line.sample = sample;
    if (const auto found = holders.find(sample.cookie); found != holders.end())
      line.holders = found->second;
    if (!line.holders.empty())
      if (const auto found = processes.find(line.holders.front()); found != processes.end()) {
        const model::ProcessSample& process = *found->second;
        line.process = {process.id, process.comm, process.vpid, process.uid, tick->started_at(process.id), {}};
      }
    const auto who = line.process.id ? std::pair(line.process.id, std::uint64_t{0}) : std::pair(sample.owner, sample.owner ? 0 : sample.cgroup_id);
    if (const auto found = workloads.find(who); found != workloads.end())
      line.process.workload = *found->second;
    // The newest unread byte came with the last arrival, so the oldest is at least that old.
    if (sample.unread_bytes > 0 && known(sample.last_arrival))
      line.oldest_unread_at_least = tick->time - sample.last_arrival;
    if (!passes(options.filter, line))
      continue;
    if (!sink->socket(line))
      return output_ended(*sink);
    shown++;
  }
  const bool incomplete = tick->lost.total() > options.loss_limit;
  std::fprintf(stderr, "laggard: %zu of %llu sockets shown%s\n", shown, static_cast<unsigned long long>(tick->sockets_visited),
               incomplete ? "; some could not be tracked: the kernel had no memory for them" : "");
  return incomplete ? kIncomplete : kObserved;
}

}  // namespace laggard::cli
