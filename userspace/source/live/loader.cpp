// SPDX-License-Identifier: MIT
#include "source/live/loader.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <vector>

#include "laggard_before_6_2.skel.h"
#include "source/live/host.h"
#include "source/live/map_size.h"

namespace laggard::source::live {
namespace {

constexpr const char* kKernelBtf = "/sys/kernel/btf/vmlinux";

// libbpf has one print callback per process, without context.
thread_local std::string* libbpf_log = nullptr;

int keep_log(libbpf_print_level level, const char* format, va_list arguments)
{
  if (libbpf_log == nullptr || level == LIBBPF_DEBUG)
    return 0;
  char* text = nullptr;
  const int length = ::vasprintf(&text, format, arguments);
  if (length > 0)
    libbpf_log->append(text, static_cast<std::size_t>(length));
  std::free(text);
  return 0;
}

// The identifier that follows `before`; empty where there is none.
std::string word_after(const std::string& text, std::string_view before)
{
  const auto found = text.find(before);
  if (found == std::string::npos)
    return {};
  const auto start = text.begin() + static_cast<std::ptrdiff_t>(found + before.size());
  const auto is_word = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; };
  return {start, std::find_if_not(start, text.end(), is_word)};
}

// The one place that turns libbpf's negative errno into an error.
Error load_error(int negative_errno, const std::string& log)
{
  for (std::string_view before : {"unknown func ", "program of this type cannot use helper "})
    if (const std::string name = word_after(log, before); !name.empty())
      return {fmt::format("this kernel does not let tracing programs call {}", name), {}};
  if (log.find("BPF_STX uses reserved fields") != std::string::npos)  // before 5.12
    return {"this kernel has no atomic operations that return a value", {}};
  if (const std::string name = word_after(log, "failed to find kernel BTF type ID of '"); !name.empty())
    return {fmt::format("this kernel has no {}", name), {}};
  if (log.find("vmlinux BTF is not found") != std::string::npos || log.find("failed to find valid kernel BTF") != std::string::npos)
    return {"this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)", {}};
  return {"the kernel refused it", std::error_code(-negative_errno, std::system_category())};
}

std::uint64_t nanoseconds_per_jiffy()
{
  // The resolution of the coarse clocks is one jiffy (kernel/time/posix-timers.c: KTIME_LOW_RES).
  timespec resolution{};
  if (::clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) != 0 || resolution.tv_nsec <= 0)
    return 4'000'000;
  return static_cast<std::uint64_t>(resolution.tv_nsec);
}

int attach(laggard_bpf& skeleton, bpf_program* program)
{
  bpf_link* link = nullptr;
  if (program == skeleton.progs.sweep) {
    bpf_iter_link_info info{};
    info.map.map_fd = static_cast<__u32>(bpf_map__fd(skeleton.maps.sockets));
    LIBBPF_OPTS(bpf_iter_attach_opts, options);
    options.link_info = &info;
    options.link_info_len = sizeof info;
    link = bpf_program__attach_iter(program, &options);
  } else {
    link = bpf_program__attach(program);
  }
  if (link == nullptr)
    return -errno;
  // The skeleton owns its links and destroys them.
  for (int i = 0; i < skeleton.skeleton->prog_cnt; i++)
    if (*skeleton.skeleton->progs[i].prog == program)
      *skeleton.skeleton->progs[i].link = link;
  return 0;
}

// Both objects hold the same programs, maps and globals, so one skeleton type serves both: only the bytes differ.
Result<Skeleton> load_object(bool with_kfuncs, std::span<const std::string_view> programs,
                             std::span<const std::string_view> on_demand, const std::string& log)
{
  // Named explicitly, libbpf looks at the kernel's own BTF only. Else it searches every module for a type that this kernel
  // lacks, which needs CAP_SYS_ADMIN: with our two capabilities each absent type would be an error (seen on 6.1 and 6.12).
  LIBBPF_OPTS(bpf_object_open_opts, options);
  options.btf_custom_path = kKernelBtf;
  Skeleton skeleton{static_cast<laggard_bpf*>(std::calloc(1, sizeof(laggard_bpf)))};
  if (!skeleton || laggard_bpf__create_skeleton(skeleton.get()) != 0)
    return errno_failure("no memory for the BPF object", ENOMEM);
  if (!with_kfuncs) {
    std::size_t size = 0;
    skeleton->skeleton->data = const_cast<void*>(laggard_before_6_2_bpf__elf_bytes(&size));
    skeleton->skeleton->data_sz = size;
  }
  if (const int error = bpf_object__open_skeleton(skeleton->skeleton, &options); error != 0)
    return tl::make_unexpected(load_error(error, log));
  skeleton->rodata->ns_per_jiffy = nanoseconds_per_jiffy();
  skeleton->rodata->looks_once = std::ranges::none_of(programs, [](std::string_view name) { return name.starts_with("reads"); });
  const auto is_among = [](bpf_program* program, std::span<const std::string_view> names) {
    return std::ranges::find(names, std::string_view(bpf_program__name(program))) != names.end();
  };
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj)
    if (bpf_map__type(map) == BPF_MAP_TYPE_LRU_HASH)
      bpf_map__set_max_entries(map, lru_max_entries(bpf_map__max_entries(map), libbpf_num_possible_cpus()));
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj)
    bpf_program__set_autoload(program, is_among(program, programs) || is_among(program, on_demand));
  if (const int error = laggard_bpf__load(skeleton.get()); error != 0)
    return tl::make_unexpected(load_error(error, log));
  skeleton->bss->epoch = 1;
  skeleton->bss->states_left = std::numeric_limits<__s64>::max();
  bpf_object__for_each_program(program, skeleton->obj)
  {
    if (!is_among(program, programs))
      continue;
    if (const int error = attach(*skeleton, program); error != 0)
      return tl::make_unexpected(load_error(error, log));
  }
  return skeleton;
}

}  // namespace

Result<Skeleton> load(std::span<const std::string_view> programs, std::span<const std::string_view> on_demand,
                      std::string* log)
{
  std::string own_log;
  libbpf_log = log != nullptr ? log : &own_log;
  libbpf_set_print(keep_log);
  struct Forget {
    ~Forget() { libbpf_log = nullptr; }
  } forget;
  auto skeleton = load_object(true, programs, on_demand, *libbpf_log);
  // What is not permitted is so without kfuncs, too.
  if (skeleton || skeleton.error().code == std::errc::operation_not_permitted)
    return skeleton;
  return load_object(false, programs, on_demand, *libbpf_log);
}

Availability probe(std::span<const Candidate> table, std::string* log)
{
  Availability availability;
  for (const Candidate& candidate : table) {
    std::vector<std::string_view> programs;
    for (std::string_view name : candidate.programs)
      if (!name.empty())
        programs.push_back(name);
    std::string own_log;  // of this candidate alone: the sentence is found in it
    const auto loaded = load(programs, {}, &own_log);
    if (log != nullptr)
      *log += own_log;
    availability[candidate.hook] = loaded ? std::string{} : loaded.error().message();
  }
  return availability;
}

namespace {

// The best rung of each feed that has more than one.
std::vector<Candidate> first_of_many(std::span<const Candidate> table)
{
  std::vector<Candidate> first;
  for (auto candidate = table.begin(); candidate != table.end(); ++candidate) {
    const auto same = [&](const Candidate& other) { return other.feed == candidate->feed; };
    if (std::none_of(table.begin(), candidate, same) && std::count_if(table.begin(), table.end(), same) > 1)
      first.push_back(*candidate);
  }
  return first;
}

}  // namespace

Result<Loaded> load_best(const std::map<std::string, std::string>& forced, std::span<const std::string_view> feeds)
{
  std::vector<Candidate> table;
  for (const Candidate& candidate : kCandidates)
    if (feeds.empty() || std::ranges::find(feeds, candidate.feed) != feeds.end())
      table.push_back(candidate);

  if (std::string obstacle = obstacle_to_loading(); !obstacle.empty())
    return failure(obstacle);
  auto best = plan(table, {}, forced);
  if (!best)
    return tl::make_unexpected(best.error());
  // Most hosts take the best plan at once. Where one does not, the rungs that another one could stand for are tried first, for
  // that costs least, and every rung on its own only where it was none of these.
  if (auto skeleton = load(best->programs, best->on_demand))
    return Loaded{std::move(*best), std::move(*skeleton)};
  best = plan(table, probe(first_of_many(table)), forced);
  if (best->gap.empty())
    if (auto skeleton = load(best->programs, best->on_demand))
      return Loaded{std::move(*best), std::move(*skeleton)};
  best = plan(table, probe(table), forced);
  if (!best->gap.empty())
    return failure(best->gap);
  auto skeleton = load(best->programs, best->on_demand);
  if (!skeleton)
    return tl::make_unexpected(skeleton.error());
  return Loaded{std::move(*best), std::move(*skeleton)};
}

}  // namespace laggard::source::live
