// SPDX-License-Identifier: MIT
#include "source/live/pair_links.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "source/live/host.h"

namespace laggard::source::live {
namespace {

constexpr __u32 kAtReturn = 1;  // BPF_F_UPROBE_MULTI_RETURN
struct UprobeMultiLink {
  __u32 program_fd = 0, target_fd = 0, attach_type = PairLinks::kTraceUprobeMulti, flags = 0;
  __u64 path = 0, offsets = 0, ref_counter_offsets = 0, cookies = 0;
  __u32 count = 0, multi_flags = 0, pid = 0, padding = 0;
};

Fd create_multi_link(int program, const std::string& path, std::span<const std::uint64_t> offsets, std::span<const std::uint64_t> cookies,
                     bool at_return, std::uint32_t tgid)
{
  UprobeMultiLink attributes;
  attributes.program_fd = static_cast<__u32>(program);
  attributes.path = reinterpret_cast<__u64>(path.c_str());
  attributes.offsets = reinterpret_cast<__u64>(offsets.data());
  attributes.cookies = reinterpret_cast<__u64>(cookies.data());
  attributes.count = static_cast<__u32>(offsets.size());
  attributes.multi_flags = at_return ? kAtReturn : 0;
  attributes.pid = tgid;
  return Fd{static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof attributes))};
}

Error cannot_attach(int error, bool by_perf_event)
{
  if (error != EPERM && error != EACCES)
    return {"cannot be probed", std::error_code(error, std::system_category())};
  return {by_perf_event ? "cannot be probed: USDT probes, and functions before Linux 6.6, take CAP_SYS_ADMIN, which is dropped after "
                          "loading unless --keep-privileges says otherwise"
                        : "cannot be probed: CAP_PERFMON is missing", {}};
}

// libbpf's "all processes" is -1.
pid_t pid_of(std::uint32_t tgid) { return tgid == 0 ? -1 : static_cast<pid_t>(tgid); }

// Of one process the cookie says so: see laggard_pair_config.
std::uint64_t cookie_of(std::uint64_t cookie, std::uint32_t tgid) { return tgid == 0 ? cookie : cookie | LAGGARD_COOKIE_OF_PROCESS; }

}  // namespace

// A directory can carry no probe: EBADF says that the kernel understood everything else.
bool PairLinks::has_uprobe_multi(int program)
{
  constexpr std::array<std::uint64_t, 1> kNothing{};
  return program >= 0 && !create_multi_link(program, "/", kNothing, kNothing, false, 0) && errno == EBADF;
}

Result<void> PairLinks::attach(const std::string& path, std::span<const Function> functions, std::uint32_t tgid)
{
  // Returns first: a call that is entered between the two is not known at its return, and none is entered and never returns.
  for (const bool at_return : {true, false}) {
    if (multi_) {
      if (auto done = attach_multi(path, functions, at_return, tgid); !done)
        return done;
      continue;
    }
    for (const Function& function : functions)
      if (!at_return || function.at_return)
        if (auto done = attach_one(path, function, at_return, tgid); !done)
          return done;
  }
  return {};
}

Result<void> PairLinks::attach_multi(const std::string& path, std::span<const Function> functions, bool at_return, std::uint32_t tgid)
{
  std::vector<std::uint64_t> offsets, cookies;
  for (const Function& function : functions) {
    if (at_return && !function.at_return)
      continue;
    offsets.push_back(function.offset);
    cookies.push_back(cookie_of(function.cookie, tgid));
  }
  if (offsets.empty())
    return {};
  const bpf_program* program = at_return ? skeleton_->progs.pair_uretprobe_multi : skeleton_->progs.pair_uprobe_multi;
  multi_links_.push_back(create_multi_link(bpf_program__fd(program), path, offsets, cookies, at_return, tgid));
  return multi_links_.back() ? Result<void>{} : tl::make_unexpected(cannot_attach(errno, false));
}

Result<void> PairLinks::attach_one(const std::string& path, const Function& function, bool at_return, std::uint32_t tgid)
{
  LIBBPF_OPTS(bpf_uprobe_opts, options);
  options.bpf_cookie = cookie_of(function.cookie, tgid);
  options.retprobe = at_return;
  const bpf_program* program = at_return ? skeleton_->progs.pair_uretprobe : skeleton_->progs.pair_uprobe;
  links_.emplace_back(bpf_program__attach_uprobe_opts(program, pid_of(tgid), path.c_str(), function.offset, &options));
  return links_.back() ? Result<void>{} : tl::make_unexpected(cannot_attach(errno, true));
}

Result<bool> PairLinks::attach(const std::string& path, const Usdt& probe, std::uint32_t tgid)
{
  if (!has_sys_admin())
    return tl::make_unexpected(cannot_attach(EPERM, true));
  LIBBPF_OPTS(bpf_usdt_opts, options);
  options.usdt_cookie = cookie_of(probe.cookie, tgid);
  links_.emplace_back(bpf_program__attach_usdt(skeleton_->progs.pair_usdt, pid_of(tgid), path.c_str(), probe.provider.c_str(), probe.name.c_str(),
                                               &options));
  if (links_.back())
    return true;
  links_.pop_back();
  return errno == ENOENT ? Result<bool>{false} : tl::make_unexpected(cannot_attach(errno, true));
}

}  // namespace laggard::source::live
