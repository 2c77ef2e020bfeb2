// SPDX-License-Identifier: MIT
#include "source/live/host.h"

#include <cap-ng.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

namespace laggard::source::live {
namespace {

constexpr std::uint32_t kNobody = 65534;
// include/linux/proc_ns.h
constexpr ino_t kInitialUserNs = 0xEFFFFFFDU, kInitialPidNs = 0xEFFFFFFCU;

std::string first_line(const char* path)
{
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  return line;
}

int number_in(const char* path)
{
  std::ifstream file{path};
  int value = -1;
  return file >> value ? value : -1;
}

bool is_namespace(const char* path, ino_t inode)
{
  struct stat status {};
  return ::stat(path, &status) != 0 || status.st_ino == inode;
}

bool effective(unsigned capability) { return capng_have_capability(CAPNG_EFFECTIVE, capability) == 1; }
bool permitted(int capability) { return capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(capability)) == 1; }

}  // namespace

HostFacts host_facts()
{
  HostFacts facts;
  utsname name{};
  ::uname(&name);
  facts.kernel = name.release;
  facts.architecture = name.machine;
  facts.has_btf = ::access("/sys/kernel/btf/vmlinux", R_OK) == 0;
  // "none [integrity] confidentiality": the brackets say which.
  const std::string lockdown = first_line("/sys/kernel/security/lockdown");
  if (const auto open = lockdown.find('['); open != std::string::npos)
    facts.lockdown = lockdown.substr(open + 1, lockdown.find(']') - open - 1);

  capng_get_caps_process();
  const bool admin = effective(CAP_SYS_ADMIN);
  facts.has_bpf = admin || effective(CAP_BPF);
  facts.has_perfmon = admin || effective(CAP_PERFMON);
  facts.has_sys_ptrace = effective(CAP_SYS_PTRACE);
  facts.has_dac_read_search = effective(CAP_DAC_READ_SEARCH);
  facts.has_sys_resource = effective(CAP_SYS_RESOURCE);
  for (unsigned capability = 0; capability <= static_cast<unsigned>(CAP_LAST_CAP); capability++)
    if (const char* text = capng_capability_to_name(capability); text != nullptr && effective(capability))
      facts.capabilities.emplace_back(text);
  facts.initial_pid_ns = is_namespace("/proc/self/ns/pid", kInitialPidNs);
  facts.initial_user_ns = is_namespace("/proc/self/ns/user", kInitialUserNs);
  facts.unprivileged_bpf_disabled = number_in("/proc/sys/kernel/unprivileged_bpf_disabled");
  facts.has_mptcp = number_in("/proc/sys/net/mptcp/enabled") > 0;
  facts.perf_event_paranoid = number_in("/proc/sys/kernel/perf_event_paranoid");
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
    facts.memlock_bytes = limit.rlim_cur;
  facts.uid = ::geteuid();
  return facts;
}

bool has_sys_admin()
{
  capng_get_caps_process();
  return effective(CAP_SYS_ADMIN);
}

std::string obstacle_to_loading()
{
  const HostFacts facts = host_facts();
  if (!facts.initial_user_ns && (facts.has_bpf || facts.has_perfmon))
    return "capabilities of a user namespace do not count for BPF: run laggard in the initial user namespace";
  if (!facts.has_bpf || !facts.has_perfmon) {
    const char* missing = facts.has_bpf ? "CAP_PERFMON" : facts.has_perfmon ? "CAP_BPF" : "CAP_BPF and CAP_PERFMON";
    return fmt::format("{} missing: run as root, or give the two capabilities with "
                       "'setcap cap_bpf,cap_perfmon=ep $(command -v laggard)'", missing);
  }
  if (facts.lockdown == "confidentiality")
    return "kernel lockdown is 'confidentiality', which refuses all tracing programs: boot with lockdown=integrity or none";
  if (!facts.has_btf)
    return "/sys/kernel/btf/vmlinux is missing: laggard needs a kernel with CONFIG_DEBUG_INFO_BTF=y";
  return {};
}

std::optional<std::uint32_t> user_after_dropping()
{
  capng_get_caps_process();
  if (::geteuid() == 0 && permitted(CAP_SETUID) && permitted(CAP_SETGID))
    return kNobody;
  return std::nullopt;
}

Result<void> drop_privileges(std::span<const int> keep)
{
  const auto user = user_after_dropping();
  std::vector<unsigned> kept;
  for (int capability : keep)
    if (permitted(capability))
      kept.push_back(static_cast<unsigned>(capability));
  capng_clear(CAPNG_SELECT_ALL);
  for (unsigned capability : kept)
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), capability);
  int result = 0;
  if (user)
    result = capng_change_id(static_cast<int>(*user), static_cast<int>(*user), static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP));
  else
    result = capng_apply(CAPNG_SELECT_CAPS);
  if (result != 0)
    return failure(fmt::format("cannot give up privileges (libcap-ng says {})", result));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return errno_failure("cannot give up privileges for ever (PR_SET_NO_NEW_PRIVS)");
  return {};
}

}  // namespace laggard::source::live
