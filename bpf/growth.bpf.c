// SPDX-License-Identifier: GPL-2.0
// Feed `growth`: which reads the memory of a process grows with. Attached while there are suspects, some seconds each.
//
// Hook: rss_stat fires where a page is accounted, in the context of who touched it, huge pages included (a page fault
// does not say how much it brought: 4 KiB and 2 MiB look alike). The registers at the last entry into the kernel tell a
// fault of the program from one of a system call, so page_fault_user and _kernel are not needed.
// Racy: two threads that grow at the same moment can swap the sizes of their steps; the sum stays right.
#include "lib/record.bpf.h"
#include <laggard/abi/growth.h>

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, LAGGARD_MAX_SUSPECTS);
  __type(key, __u32);
  __type(value, struct laggard_suspect);
} suspects __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __type(key, struct laggard_growth_key);
  __type(value, struct laggard_growth);
} growth __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} samples __weak SEC(".maps");

struct call {
  __u64 ip;
  __u64 sp;
  __u64 argument;  // the first: the descriptor of a read
};
struct thread {
  __u64 cookie;         // of the TCP or UDP socket read last; 0 = none
  __u64 pending_pages;  // touched by the kernel within `in`; counted under cookie 0 until a read claims them
  __u64 pending_sample;
  __u64 generation;     // of the attribution that wrote this
  struct call in;
};
// By thread id. Preallocated: a page fault is no place to ask for memory.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 8192);
  __type(key, __u32);
  __type(value, struct thread);
} threads __weak SEC(".maps");

// A counter of pages as this CPU saw it at the event before, by index of the suspect and kind of page.
struct seen_counter {
  __u64 mm;
  __s64 count;  // that all CPUs share
  __s32 part;   // of this CPU, not yet in `count`
  __u32 generation;
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, LAGGARD_MAX_SUSPECTS * 2);
  __type(key, __u32);
  __type(value, struct seen_counter);
} seen_counters __weak SEC(".maps");

// ---- the user's registers at the last entry into the kernel ----

#if defined(__TARGET_ARCH_x86)
static __always_inline bool in_syscall(const struct pt_regs *regs)
{
  return (long)BPF_CORE_READ(regs, orig_ax) >= 0;  // arch/x86/entry/entry_64.S: an exception stores -1
}
static __always_inline void read_call(const struct pt_regs *regs, struct call *call)
{
  call->ip = BPF_CORE_READ(regs, ip);
  call->sp = BPF_CORE_READ(regs, sp);
  call->argument = BPF_CORE_READ(regs, di);
}
static __always_inline __u32 copy_registers(const struct pt_regs *regs, __u64 *to)
{
  to[0] = BPF_CORE_READ(regs, ax);
  to[1] = BPF_CORE_READ(regs, dx);
  to[2] = BPF_CORE_READ(regs, cx);
  to[3] = BPF_CORE_READ(regs, bx);
  to[4] = BPF_CORE_READ(regs, si);
  to[5] = BPF_CORE_READ(regs, di);
  to[6] = BPF_CORE_READ(regs, bp);
  to[7] = BPF_CORE_READ(regs, sp);
  to[8] = BPF_CORE_READ(regs, r8);
  to[9] = BPF_CORE_READ(regs, r9);
  to[10] = BPF_CORE_READ(regs, r10);
  to[11] = BPF_CORE_READ(regs, r11);
  to[12] = BPF_CORE_READ(regs, r12);
  to[13] = BPF_CORE_READ(regs, r13);
  to[14] = BPF_CORE_READ(regs, r14);
  to[15] = BPF_CORE_READ(regs, r15);
  to[16] = BPF_CORE_READ(regs, ip);
  return 17;
}
#elif defined(__TARGET_ARCH_arm64)
static __always_inline bool in_syscall(const struct pt_regs *regs)
{
  return BPF_CORE_READ(regs, syscallno) >= 0;  // arch/arm64/include/asm/ptrace.h: NO_SYSCALL is -1
}
static __always_inline void read_call(const struct pt_regs *regs, struct call *call)
{
  call->ip = BPF_CORE_READ(regs, pc);
  call->sp = BPF_CORE_READ(regs, sp);
  call->argument = BPF_CORE_READ(regs, orig_x0);
}
static __always_inline __u32 copy_registers(const struct pt_regs *regs, __u64 *to)
{
  bpf_probe_read_kernel(to, 31 * 8, &regs->regs);
  to[31] = BPF_CORE_READ(regs, sp);
  to[32] = BPF_CORE_READ(regs, pc);
  return 33;
}
#else
#error "user registers: x86-64 and arm64 are known"
#endif

static __always_inline const struct pt_regs *user_registers(struct task_struct *task)
{
  return (const struct pt_regs *)bpf_task_pt_regs(task);
}

static __always_inline struct laggard_suspect *suspect_of(__u32 tgid) { return bpf_map_lookup_elem(&suspects, &tgid); }

// What this thread did in this attribution; NULL where it is not known yet and not to be created.
static __always_inline struct thread *thread_of(const struct laggard_suspect *suspect, struct task_struct *task, bool create)
{
  __u32 tid = task->pid;
  struct thread *thread = bpf_map_lookup_elem(&threads, &tid);
  if (!thread && create) {
    static const struct thread nothing = {};
    bpf_map_update_elem(&threads, &tid, &nothing, BPF_NOEXIST);
    thread = bpf_map_lookup_elem(&threads, &tid);
  }
  if (thread && thread->generation != suspect->generation) {
    __builtin_memset(thread, 0, sizeof(*thread));
    thread->generation = suspect->generation;
  }
  return thread;
}

// ---- counting ----

static __always_inline struct laggard_growth *growth_with(const struct laggard_suspect *suspect, __u64 cookie)
{
  struct laggard_growth_key key = {.cookie = cookie, .generation = suspect->generation};
  struct laggard_growth *entry = bpf_map_lookup_elem(&growth, &key);
  if (entry)
    return entry;
  static const struct laggard_growth nothing = {};
  bpf_map_update_elem(&growth, &key, &nothing, BPF_NOEXIST);
  return bpf_map_lookup_elem(&growth, &key);
}

static __always_inline void charge(struct laggard_suspect *suspect, __u64 cookie, __s64 kernel_pages, __s64 user_pages)
{
  struct laggard_growth *entry = growth_with(suspect, cookie);
  if (!entry) {
    __sync_fetch_and_add(&suspect->lost_pages, kernel_pages + user_pages);
    return;
  }
  __sync_fetch_and_add(&entry->kernel_pages, kernel_pages);
  __sync_fetch_and_add(&entry->user_pages, user_pages);
}

// One sample per stack_interval_ns stands for all pages since the one before. Returns its id, 0 = none taken.
static __noinline __u64 sample(struct laggard_suspect *suspect, struct task_struct *task, __u64 cookie, __u64 pages,
                               __u32 within_syscall)
{
  if (!suspect || !task)
    return 0;
  __u64 now = bpf_ktime_get_ns();
  __sync_fetch_and_add(&suspect->unsampled_pages, pages);
  if (now - suspect->last_sample_ns < suspect->stack_interval_ns)
    return 0;
  suspect->last_sample_ns = now;
  struct laggard_stack_sample *sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
  if (!sample) {
    __sync_fetch_and_add(&suspect->lost_samples, 1);
    return 0;
  }
  __u64 id = __sync_fetch_and_add(&suspect->sample_ids, 1) + 1;
  const struct pt_regs *regs = user_registers(task);
  struct call call;
  read_call(regs, &call);
  sample->kind = LAGGARD_SAMPLE_STACK;
  sample->tid = task->pid;
  sample->id = id;
  sample->cookie = cookie;
  sample->pages = __sync_fetch_and_and(&suspect->unsampled_pages, 0);
  sample->in_syscall = within_syscall;
  sample->register_count = copy_registers(regs, sample->registers);
  // Page by page, so that the end of the stack's mapping costs the rest and not everything.
  sample->stack_address = call.sp & ~(__u64)(LAGGARD_STACK_PAGE - 1);
  __u32 copied = 0;
  for (int page = 0; page < LAGGARD_STACK_BYTES / LAGGARD_STACK_PAGE; page++) {
    __u32 at = page * LAGGARD_STACK_PAGE;
    if (bpf_probe_read_user(sample->stack + at, LAGGARD_STACK_PAGE, (void *)(sample->stack_address + at)))
      break;
    copied = at + LAGGARD_STACK_PAGE;
  }
  sample->stack_bytes = copied;
  bpf_ringbuf_submit(sample, 0);
  return id;
}

// How much this CPU's part of a counter has grown since its last event, however many CPUs there are. False: only the sum over
// all of them can tell. lib/percpu_counter.c: a part that reaches percpu_counter_batch, twice the number of CPUs or more, goes to
// `count` and begins at 0. So the sum is for one page in so many, or for those that come as a huge page.
static __always_inline bool step_of_cpu(const struct laggard_suspect *suspect, struct mm_struct *mm, int member, __s64 *step)
{
  __u32 index = suspect->index * 2 + (member == MM_SHMEMPAGES), zero = 0;
  struct seen_counter *seen = bpf_map_lookup_elem(&seen_counters, &index);
  void *element = bpf_map_lookup_elem(&cpu_offsets, &zero);
  if (!seen || !element)
    return false;
  const struct percpu_counter *counter = rss_counter(mm, member);
  struct seen_counter now = {
    .mm = (__u64)mm,
    .count = BPF_CORE_READ(counter, count),
    .part = percpu_slot((unsigned long)BPF_CORE_READ(counter, counters), percpu_origin(), element),
    .generation = suspect->generation,
  };
  struct seen_counter before = *seen;
  *seen = now;
  bool may_be_emptied = now.count != before.count && (now.part == 0 || now.part < before.part);
  if (before.mm != now.mm || before.generation != now.generation || may_be_emptied)
    return false;
  *step = now.part - before.part;
  return true;
}

// How much larger the suspect is than at the event before; MM_* `member`. What other processes do to its memory, and what two
// threads of it count at one moment, is put right by the next sum.
static __always_inline __s64 step(struct laggard_suspect *suspect, struct mm_struct *mm, int member)
{
  __u32 error_pages = 0, place = member;
  __s64 pages_of_cpu = 0;
  asm volatile("" : "+r"(place));  // the compiler knows that it is below 4, the verifier does not
  place &= 3;
  if (has_percpu_rss(mm) && step_of_cpu(suspect, mm, member, &pages_of_cpu)) {
    __sync_fetch_and_add(&suspect->last_pages[place], pages_of_cpu);
    return pages_of_cpu;
  }
  __u64 pages = mm_pages(mm, member, &error_pages);
  __u64 before = __sync_lock_test_and_set(&suspect->last_pages[place], pages);
  if (before)
    return pages - before;
  suspect->first_pages[place] = pages ? pages - 1 : 0;
  return pages != 0;
}

SEC("tp_btf/rss_stat")
int BPF_PROG(grow, struct mm_struct *mm, int member)
{
  struct task_struct *task = bpf_get_current_task_btf();
  struct laggard_suspect *suspect = suspect_of(task->tgid);
  if (!suspect || task->mm != mm)
    return 0;
  if (member != MM_ANONPAGES && member != MM_SHMEMPAGES)
    return 0;
  __s64 pages = step(suspect, mm, member);
  if (pages <= 0)
    return 0;

  const struct pt_regs *regs = user_registers(task);
  bool within_syscall = in_syscall(regs);
  struct thread *thread = thread_of(suspect, task, within_syscall);
  __u64 cookie = thread ? thread->cookie : 0;
  __u64 id = suspect->stack_interval_ns ? sample(suspect, task, within_syscall ? 0 : cookie, pages, within_syscall) : 0;
  if (!within_syscall) {
    charge(suspect, cookie, 0, pages);
    return 0;
  }
  charge(suspect, 0, pages, 0);
  if (!thread)
    return 0;
  struct call call;
  read_call(regs, &call);
  if (call.ip != thread->in.ip || call.sp != thread->in.sp || call.argument != thread->in.argument) {
    thread->in = call;
    thread->pending_pages = 0;
    thread->pending_sample = 0;
  }
  thread->pending_pages += pages;
  if (id)
    thread->pending_sample = id;
  return 0;
}

// A turn ends where the next one begins, or with its socket.
static __always_inline void end_turn(struct laggard_growth *entry, __u32 write_seq)
{
  if (!entry->last_read_ns)
    return;
  entry->turns++;
  entry->answered += (__s32)(write_seq - entry->write_seq) > 0;
}

static __always_inline void count_read(struct laggard_growth *entry, struct sock *sk, int ret)
{
  entry->reads++;
  entry->read_bytes += ret;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return;
  __u64 now = bpf_ktime_get_ns();
  if (now - entry->last_read_ns > LAGGARD_TURN_PAUSE_NS || now - entry->turn_began_ns > LAGGARD_TURN_MAX_NS) {
    end_turn(entry, tp->write_seq);
    entry->turn_began_ns = now;
    entry->write_seq = tp->write_seq;
    struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
    entry->accepted = state && state->flags & LAGGARD_F_ACCEPTED;
  }
  entry->last_read_ns = now;
}

static __always_inline int on_attributed_read(struct sock *sk, int ret)
{
  struct task_struct *task = bpf_get_current_task_btf();
  struct laggard_suspect *suspect = suspect_of(task->tgid);
  if (!suspect || ret <= 0 || !is_tracked(sk))
    return 0;
  struct thread *thread = thread_of(suspect, task, true);
  if (!thread)
    return 0;
  __u64 cookie = bpf_get_socket_cookie(sk);
  thread->cookie = cookie;
  struct laggard_growth *entry = growth_with(suspect, cookie);
  if (entry)
    count_read(entry, sk, ret);
  if (!thread->pending_pages)
    return 0;
  struct call call;
  read_call(user_registers(task), &call);
  // Pages of an earlier system call stay where they are.
  if (call.ip == thread->in.ip && call.sp == thread->in.sp && call.argument == thread->in.argument) {
    charge(suspect, 0, -(__s64)thread->pending_pages, 0);
    charge(suspect, cookie, thread->pending_pages, 0);
    if (thread->pending_sample) {
      struct laggard_stack_owner *owner = bpf_ringbuf_reserve(&samples, sizeof(*owner), 0);
      if (owner) {
        owner->kind = LAGGARD_SAMPLE_OWNER;
        owner->padding = 0;
        owner->id = thread->pending_sample;
        owner->cookie = cookie;
        bpf_ringbuf_submit(owner, 0);
      }
    }
  }
  thread->pending_pages = 0;
  thread->pending_sample = 0;
  return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(growth_reads_tp, struct sock *sk, int ret, int flags)
{
  return on_attributed_read(sk, ret);
}

SEC("fexit/inet_recvmsg")
int BPF_PROG(growth_reads_inet, struct socket *sock, struct msghdr *msg, size_t size, int flags, int ret)
{
  struct sock *sk = sock->sk;
  return sk ? on_attributed_read(sk, ret) : 0;
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(growth_reads_inet6, struct socket *sock, struct msghdr *msg, size_t size, int flags, int ret)
{
  struct sock *sk = sock->sk;
  return sk ? on_attributed_read(sk, ret) : 0;
}

// One request per connection: no next read ends the turn.
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(growth_ends, struct sock *sk)
{
  struct laggard_sock_state *state = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  struct laggard_suspect *suspect = state ? suspect_of(state->reader_tgid) : NULL;
  struct tcp_sock *tp = suspect ? bpf_skc_to_tcp_sock(sk) : NULL;
  if (!tp)
    return 0;
  struct laggard_growth_key key = {.cookie = bpf_get_socket_cookie(sk), .generation = suspect->generation};
  struct laggard_growth *entry = bpf_map_lookup_elem(&growth, &key);
  if (entry)
    end_turn(entry, tp->write_seq - 1);  // a FIN is no answer
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
