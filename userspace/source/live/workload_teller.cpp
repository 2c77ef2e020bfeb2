// SPDX-License-Identifier: MIT
#include "source/live/workload_teller.h"

#include <algorithm>

#include "identify/clock.h"
#include "source/records.h"

namespace laggard::source::live {
namespace {

constexpr std::size_t kMaxProcesses = identify::Workloads::kMaxProcesses;
constexpr std::size_t kMaxCgroups = 1U << 12;
constexpr Duration kForgotten = std::chrono::minutes(1);

laggard_workload_record record_of(const model::ProcessId& process, std::uint64_t cgroup_id, const model::Workload& workload)
{
  laggard_workload_record record{};
  record.start_ns = process.start_ns;
  record.tgid = process.tgid;
  record.cgroup_id = cgroup_id;
  copy_text(record.container_id, workload.container_id);
  copy_text(record.container_runtime_name, workload.container_runtime_name);
  copy_text(record.k8s_pod_uid, workload.k8s_pod_uid);
  copy_text(record.k8s_namespace_name, workload.k8s_namespace_name);
  copy_text(record.k8s_container_name, workload.k8s_container_name);
  copy_text(record.k8s_pod_name, workload.k8s_pod_name);
  copy_text(record.systemd_unit, workload.systemd_unit);
  copy_text(record.command_line, workload.command_line);
  return record;
}

}  // namespace

WorkloadTeller::WorkloadTeller(double max_share, bool with_command_lines, const std::string& root, Duration most_at_once)
    : workloads_(root, with_command_lines), max_share_(max_share), most_at_once_(most_at_once), credit_(most_at_once)
{
}

void WorkloadTeller::tell(MonoTime now, std::uint32_t epoch, RawTick& tick)
{
  if (known(before_))
    credit_ = std::min(most_at_once_, credit_ + Duration{static_cast<std::int64_t>(static_cast<double>((now - before_).count()) * max_share_)});
  before_ = now;

  std::unordered_map<model::ProcessId, std::uint64_t> alive;  // with the cgroup; what walked processes says
  const auto mention = [now](auto& all, const auto& key, std::size_t most, std::uint64_t cgroup_id) {
    if (all.size() >= most && !all.contains(key))
      return;
    Told& told = all[key];
    told.mentioned = now;
    if (cgroup_id != 0)
      told.cgroup_id = cgroup_id;
  };
  for_each_record(tick, [&](__u16 kind, std::span<const std::byte> bytes) {
    if (kind == LAGGARD_RECORD_HOLDER) {
      const auto holder = take<laggard_holder_record>(bytes);
      mention(processes_, model::ProcessId{holder.tgid, holder.start_ns}, kMaxProcesses, 0);
    } else if (kind == LAGGARD_RECORD_SOCKET) {
      const auto socket = take<laggard_socket_record>(bytes);
      if (socket.owner_tgid != 0)
        mention(processes_, model::ProcessId{socket.owner_tgid, socket.owner_start_ns}, kMaxProcesses, socket.cgroup_id);
      else if (socket.cgroup_id != 0)
        mention(cgroups_, socket.cgroup_id, kMaxCgroups, socket.cgroup_id);
    } else if (kind == LAGGARD_RECORD_PROCESS) {
      const auto process = take<laggard_process_record>(bytes);
      alive.emplace(model::ProcessId{process.tgid, process.start_ns}, process.cgroup_id);
    }
  });

  std::vector<std::pair<model::ProcessId, Told*>> wanted;
  for (auto& [id, told] : processes_) {
    if (const auto found = alive.find(id); found != alive.end())
      told.cgroup_id = found->second;
    wanted.emplace_back(id, &told);
  }
  for (auto& [id, told] : cgroups_)
    wanted.emplace_back(model::ProcessId{}, &told);
  std::ranges::sort(wanted, {}, [](const auto& entry) { return entry.second->looked_at; });
  // What looking costs, and not the reading of the tick: where that alone takes the whole credit, nobody would ever be looked at.
  const Duration begun = identify::thread_cpu();
  Duration spent{};
  for (auto& [id, told] : wanted) {
    if (spent >= credit_)
      break;
    told->looked_at = now;
    model::Workload workload = workloads_.of(id.tgid, id.start_ns, told->cgroup_id);
    if (workload != told->workload) {
      told->workload = std::move(workload);
      laggard_workload_record record = record_of(id, told->cgroup_id, told->workload);
      record.header = {LAGGARD_RECORD_WORKLOAD, sizeof record, epoch};
      append(tick, record);
    }
    spent = identify::thread_cpu() - begun;
  }
  credit_ -= spent;
  const auto forgotten = [now](const auto& entry) { return now - entry.second.mentioned > kForgotten; };
  std::erase_if(processes_, forgotten);
  std::erase_if(cgroups_, forgotten);
}

}  // namespace laggard::source::live
