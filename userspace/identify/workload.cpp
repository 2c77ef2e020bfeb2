// SPDX-License-Identifier: MIT
#include "identify/workload.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <tuple>

namespace laggard::identify {
namespace {

constexpr std::size_t kMaxFileBytes = 64U << 10;            // 16 hierarchies with paths of PATH_MAX
constexpr std::uint64_t kNsPerTick = 10'000'000;            // USER_HZ, which is 100 wherever there is eBPF
constexpr std::string_view kHostPids = "pid:[4026531836]";  // PROC_PID_INIT_INO
constexpr std::uint64_t kExiting = 0x4;                     // PF_EXITING
constexpr std::uint64_t kKernelThread = 0x200000;           // PF_KTHREAD

std::optional<std::string> read_file(int directory, const char* name)
{
  const Fd file(::openat(directory, name, O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < kMaxFileBytes) {
    const ssize_t bytes = ::read(file.get(), buffer.data(), buffer.size());
    if (bytes == 0) break;
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return std::nullopt;
    text.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  return text;
}

struct Stat {
  char state = '?';
  std::uint64_t flags = 0;
  std::uint64_t start_ticks = 0;
};

// /proc/PID/stat: pid (any bytes) state ppid pgrp session tty tpgid flags ... starttime, the 22nd
std::optional<Stat> parse_stat(std::string_view text)
{
  const std::size_t comm_end = text.rfind(") ");
  if (comm_end == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(comm_end + 2);
  Stat stat;
  for (int field = 3; field <= 22; ++field) {
    const std::string_view value = rest.substr(0, rest.find(' '));
    if (value.empty()) return std::nullopt;
    if (field == 3) stat.state = value.front();
    std::uint64_t* const number = field == 9 ? &stat.flags : field == 22 ? &stat.start_ticks : nullptr;
    if (number != nullptr && std::from_chars(value.data(), value.data() + value.size(), *number).ec != std::errc())
      return std::nullopt;
    rest.remove_prefix(std::min(value.size() + 1, rest.size()));
  }
  return stat;
}

// In the host's pid namespace, and in no other, number 2 is the kernel thread that makes all others.
bool has_host_pids(int proc)
{
  if (const auto text = read_file(proc, "2/stat"))
    if (const auto stat = parse_stat(*text)) return (stat->flags & kKernelThread) != 0;
  // Hidden from us (hidepid), or not there.
  std::array<char, 64> name;
  const ssize_t bytes = ::readlinkat(proc, "self/ns/pid", name.data(), name.size());
  return bytes <= 0 || std::string_view(name.data(), static_cast<std::size_t>(bytes)) == kHostPids;
}

// Arguments end with a 0 each; a space is what ps puts between them.
std::string command_line(int process)
{
  std::string text = read_file(process, "cmdline").value_or("");
  text.erase(text.find_last_not_of('\0') + 1);
  std::ranges::replace(text, '\0', ' ');
  return text;
}

const ContainerRef& richer(const ContainerRef& a, const ContainerRef& b)
{
  const auto worth = [](const ContainerRef& ref) {
    return std::tuple(!ref.container_id.empty(), !ref.pod_uid.empty(), !ref.runtime.empty(), !ref.systemd_unit.empty());
  };
  return worth(b) > worth(a) ? b : a;
}

bool same_place(const ContainerRef& ref, const Workload& workload)
{
  return ref.container_id == workload.container_id && (ref.pod_uid.empty() || ref.pod_uid == workload.k8s_pod_uid);
}

bool may_get_more(const Workload& workload)
{
  const bool in_pod = !workload.k8s_pod_uid.empty();
  return workload.empty() || (in_pod && (workload.k8s_pod_name.empty() || workload.k8s_container_name.empty()));
}

}  // namespace

Workloads::Workloads(const std::string& root, bool with_command_lines, Clock clock)
    : clock_(clock),
      proc_(open_below(root, "/proc", O_PATH | O_DIRECTORY)),
      with_command_lines_(with_command_lines),
      tree_(root, clock),
      names_(root, clock)
{
  sees_host_pids_ = !proc_ || has_host_pids(proc_.get());
}

Workloads::Look Workloads::look_at(std::uint32_t tgid, std::uint64_t start_ns) const
{
  if (tgid == 0 || !proc_ || !sees_host_pids_) return {};
  const Fd directory(::openat(proc_.get(), fmt::format_int(tgid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return {errno == ENOENT || errno == ESRCH ? Life::Gone : Life::Unknown, {}, {}};
  const auto cgroups = read_file(directory.get(), "cgroup");
  // Second, so that it tells whether the first is about a process that was on its way out: v1 says "/" then.
  const auto text = read_file(directory.get(), "stat");
  if (!cgroups || !text) return {errno == ENOENT || errno == ESRCH ? Life::Gone : Life::Unknown, {}, {}};
  const auto stat = parse_stat(*text);
  if (!stat) return {};
  if (start_ns != 0 && stat->start_ticks != start_ns / kNsPerTick)
    return {Life::Gone, {}, {}};  // the number is another's now
  const bool is_exiting = stat->state == 'Z' || stat->state == 'X' || (stat->flags & kExiting) != 0;
  return {is_exiting ? Life::Exiting : Life::Alive, parse_process_cgroups(*cgroups),
          with_command_lines_ ? command_line(directory.get()) : ""};
}

Workload Workloads::named(const ContainerRef& ref, const Workload* before)
{
  Workload workload;
  workload.container_id = ref.container_id;
  workload.container_runtime_name = ref.runtime;
  workload.k8s_pod_uid = ref.pod_uid;
  workload.systemd_unit = ref.systemd_unit;
  if (ref.container_id.empty() && ref.pod_uid.empty()) return workload;
  PodContainer names = names_.find(ref.container_id, ref.pod_uid);
  workload.k8s_pod_uid = std::move(names.pod_uid);
  workload.k8s_namespace_name = std::move(names.namespace_name);
  workload.k8s_pod_name = std::move(names.pod_name);
  workload.k8s_container_name = std::move(names.container_name);
  // Log files may go before the process does.
  if (before != nullptr && same_place(ref, *before)) {
    if (workload.k8s_pod_uid.empty()) workload.k8s_pod_uid = before->k8s_pod_uid;
    if (workload.k8s_pod_name.empty()) {
      workload.k8s_namespace_name = before->k8s_namespace_name;
      workload.k8s_pod_name = before->k8s_pod_name;
    }
    if (workload.k8s_container_name.empty()) workload.k8s_container_name = before->k8s_container_name;
  }
  nameless_pod_ =
      nameless_pod_ || (!workload.k8s_pod_uid.empty() && workload.k8s_pod_name.empty() && names_.is_blind());
  return workload;
}

Workload Workloads::of(std::uint32_t tgid, std::uint64_t start_ns, std::uint64_t cgroup_id)
{
  const MonoTime now = clock_();
  const Key key{tgid, start_ns};
  const bool can_remember = tgid != 0 && start_ns != 0;
  const Seen* const seen = can_remember ? seen_.find(key) : nullptr;
  if (seen != nullptr && seen->cgroup_id == cgroup_id && now < seen->look_again) return seen->workload;

  const Look look = look_at(tgid, start_ns);
  ContainerRef ref = look.cgroups.ref;
  // Of one that exits v1 says "/", and what is left of a container's would be the unit of its runtime, in v2.
  if (look.life == Life::Exiting) ref.systemd_unit.clear();
  if (look.life == Life::Alive) tree_.learn(cgroup_id, look.cgroups.v2_path);
  if (ref.empty() || look.cgroups.is_relative) ref = richer(ref, tree_.find(cgroup_id));
  // What a living process says counts, and else what says anything.
  Workload workload;
  if (seen != nullptr && !seen->workload.empty() && (ref.empty() || look.life != Life::Alive)) {
    const Workload& before = seen->workload;
    workload =
        named({before.container_id, before.container_runtime_name, before.k8s_pod_uid, before.systemd_unit}, &before);
  } else {
    workload = named(ref, seen != nullptr ? &seen->workload : nullptr);
  }
  // Of one that exits it is empty.
  workload.command_line = look.command_line.empty() && seen != nullptr ? seen->workload.command_line : look.command_line;
  if (!can_remember) return workload;
  const MonoTime look_again = may_get_more(workload)    ? now + kLookAgainForMore
                              : look.life == Life::Gone ? MonoTime::max()
                                                        : now + kLookAgain;
  return seen_.put(key, {std::move(workload), cgroup_id, look_again}).workload;
}

std::vector<std::string> Workloads::missing() const
{
  std::vector<std::string> clauses;
  if (!sees_host_pids_)
    clauses.emplace_back(
        "containers and units by process: laggard runs in a pid namespace of its own, where processes have other "
        "numbers; "
        "cgroup v2 ids tell them as far as cgroups are to be seen here (hostPID: true, or docker run --pid=host, shows "
        "all)");
  if (!tree_.is_mounted())
    clauses.emplace_back(
        "containers and units of processes that exit before they are looked at: cgroup v2 is not mounted");
  if (nameless_pod_) clauses.emplace_back("names of pods: neither /var/log/containers nor /var/log/pods can be read");
  return clauses;
}

}  // namespace laggard::identify
