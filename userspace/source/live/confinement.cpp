// SPDX-License-Identifier: MIT
#include "source/live/confinement.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <fstream>
#include <span>
#include <vector>

#include "source/live/host.h"

namespace laggard::source::live {
namespace {

#if defined(__x86_64__)
constexpr __u32 kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr __u32 kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "What audit calls this machine is not known here: add it"
#endif

constexpr rlim_t kDescriptors = 1100;           // identify::Symbols holds at most 512 files and 512 debug files
constexpr rlim_t kMappedFileBytes = 1ULL << 30;  // of the address space: copies of debug files

// Of glibc, libstdc++ and elfutils. sched_yield, sigaltstack and rt_sigaction are of sanitizers and abort().
constexpr int kReaderCalls[] = {
    __NR_read,       __NR_pread64,      __NR_write,        __NR_pwrite64,       __NR_lseek,        __NR_sendfile, __NR_close,
    __NR_fstat,      __NR_newfstatat,   __NR_recvmsg,      __NR_sendmsg,        __NR_memfd_create, __NR_brk,      __NR_munmap,
    __NR_mremap,     __NR_madvise,      __NR_futex,        __NR_getrandom,      __NR_getpid,       __NR_gettid,   __NR_clock_gettime,
    __NR_exit_group, __NR_rt_sigreturn, __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_sigaltstack,  __NR_sched_yield,
#if defined(__SANITIZE_ADDRESS__)
    __NR_pipe2  // UBSan asks by a pipe whether memory can be read
#endif
};
constexpr int kStarterCalls[] = {__NR_clone,     __NR_wait4,           __NR_kill, __NR_pidfd_open, __NR_ppoll, __NR_prctl,
                                 __NR_prlimit64, __NR_set_robust_list, __NR_rseq, __NR_getppid,
#if defined(__NR_poll)
                                 __NR_poll
#endif
};

constexpr sock_filter kAllow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
// Refused and not ended: another libc may ask for more, and lives without it.
constexpr sock_filter kRefuse = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);

constexpr sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<__u32>(offset)); }
// All values that are tested fit into the lower half of an argument.
constexpr sock_filter load_argument(std::size_t number) { return load(offsetof(seccomp_data, args) + number * sizeof(__u64)); }
constexpr sock_filter if_equal(int value, __u8 then, __u8 otherwise)
{
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(value), then, otherwise);
}

// Layers add up: what the starter may not do, no reader may.
bool allow_only(std::initializer_list<std::span<const int>> calls)
{
  std::vector<sock_filter> filter = {load(offsetof(seccomp_data, arch)), if_equal(static_cast<int>(kArchitecture), 1, 0), kRefuse,
                                     load(offsetof(seccomp_data, nr))};
  for (const int call : {__NR_mmap, __NR_mprotect})
    filter.insert(filter.end(), {if_equal(call, 0, 4), load_argument(2), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), kRefuse,
                                 kAllow});
  filter.insert(filter.end(), {if_equal(__NR_fcntl, 0, 6), load_argument(1), if_equal(F_GETFD, 2, 0), if_equal(F_GETFL, 1, 0),
                               if_equal(F_GET_SEALS, 0, 1), kAllow, kRefuse});
  for (const auto& some : calls)
    for (const int call : some)
      filter.insert(filter.end(), {if_equal(call, 0, 1), kAllow});
  filter.push_back(kRefuse);
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

bool limit(__rlimit_resource what, rlim_t soft, rlim_t hard)
{
  rlimit now{};
  if (::getrlimit(what, &now) != 0)
    return false;
  const rlimit lower{std::min(soft, now.rlim_max), std::min(hard, now.rlim_max)};
  return ::setrlimit(what, &lower) == 0;
}
bool limit(__rlimit_resource what, rlim_t to) { return limit(what, to, to); }

bool limit_memory(std::uint64_t bytes)
{
  std::ifstream statm("/proc/self/statm");
  std::array<rlim_t, 6> pages{};  // size resident shared text lib data
  for (rlim_t& field : pages)
    statm >> field;
  const auto page = static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
  return statm && limit(RLIMIT_DATA, pages[5] * page + bytes) && limit(RLIMIT_AS, pages[0] * page + bytes + kMappedFileBytes) &&
         limit(RLIMIT_FSIZE, bytes);
}

bool end_with(pid_t parent) { return ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent; }

}  // namespace

Result<void> confine_starter(int keep, pid_t parent, std::uint64_t memory_bytes)
{
  ::prctl(PR_SET_NAME, "laggard-elf");
  // Its parent decides when it ends; what is too large to be written is an error.
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ})
    ::signal(number, SIG_IGN);
  // Never the terminal, or a pipe whose reader waits for its end.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (null < 0 || ::dup2(null, standard) < 0)
      return errno_failure("/dev/null");
  if (::dup2(keep, kKept) < 0 || ::close_range(kKept + 1, ~0U, 0) != 0)
    return errno_failure("cannot close what is open");
  if (auto dropped = drop_privileges({}); !dropped)
    return dropped;
  // After the change of user, which takes it back.
  if (!end_with(parent))
    return errno_failure("cannot end with laggard");
  if (::prctl(PR_SET_DUMPABLE, 0) != 0 || !limit_memory(memory_bytes) || !limit(RLIMIT_NOFILE, kDescriptors) || !limit(RLIMIT_CORE, 0))
    return errno_failure("cannot limit itself");
  if (!allow_only({kReaderCalls, kStarterCalls}))
    return errno_failure("cannot install a seccomp filter");
  return {};
}

Result<void> confine_reader(pid_t starter, std::uint32_t cpu_seconds)
{
  if (!end_with(starter) || !limit(RLIMIT_CPU, cpu_seconds, cpu_seconds + 1) || !allow_only({kReaderCalls}))
    return errno_failure("cannot confine itself");
  return {};
}

}  // namespace laggard::source::live
