// SPDX-License-Identifier: GPL-2.0
// Feed `pairs`: operations that programs begin and should end, by probes in their own code (DESIGN 5.5). An object of its
// own, loaded only for --pairs. The three programs are one; they differ in how a kernel attaches them.
#define __VMLINUX_H__  // libbpf: registers by the names that the kernel gives them
#include "lib/kernel.h"

#include <laggard/abi/pairs.h>
#include <bpf/usdt.bpf.h>

struct laggard_pair_config pairs[LAGGARD_MAX_PAIRS] = {};
struct laggard_probe probes[LAGGARD_MAX_PROBES] = {};
__u64 hits_per_second_limit = 0;
__u64 uncounted = 0;  // hits of more processes, and ends of more connections, than the maps have room for

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, LAGGARD_MAX_OPERATIONS);
  __type(key, struct laggard_operation_key);
  __type(value, struct laggard_operation);
} operations SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 4096);
  __type(key, struct laggard_pair_key);
  __type(value, struct laggard_pair_totals);
} totals SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_STACK_TRACE);
  __uint(max_entries, 16384);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, LAGGARD_PAIR_FRAMES * sizeof(__u64));
} stacks SEC(".maps");

// When the operations of a first part ended, all at once: key[1] is 0. User space takes these.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 16384);
  __type(key, struct laggard_operation_key);
  __type(value, __u64);
} abandoned SEC(".maps");

// Wakes user space when a pair stops; the payload is its number.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 16);  // a page, where pages are large
} stops SEC(".maps");

// A probe costs the program more than a microsecond. Above the limit it does nothing from here on, and is detached as soon
// as user space wakes.
static __always_inline bool is_too_often(struct laggard_pair_config *pair, __u32 number, __u64 now)
{
  if (pair->stopped)
    return true;
  if (now - pair->window_ns >= 1000000000ULL) {
    pair->window_ns = now;
    pair->window_hits = 0;
  }
  if (__sync_fetch_and_add(&pair->window_hits, 1) < hits_per_second_limit)
    return false;
  if (!__sync_lock_test_and_set(&pair->stopped, 1))
    bpf_ringbuf_output(&stops, &number, sizeof(number), 0);
  return true;
}

static __always_inline struct laggard_pair_totals *totals_of(const struct laggard_pair_key *key)
{
  struct laggard_pair_totals *found = bpf_map_lookup_elem(&totals, key);
  if (!found) {
    struct laggard_pair_totals nothing = {};
    bpf_map_update_elem(&totals, key, &nothing, BPF_NOEXIST);
    found = bpf_map_lookup_elem(&totals, key);
  }
  return found;
}

// At the entry of a function the frame pointer is still the caller's, so that the kernel's walk along frame pointers
// passes over the caller itself.
static __always_inline __u64 caller_of(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
  __u64 caller = 0;
  bpf_probe_read_user(&caller, sizeof(caller), (void *)PT_REGS_SP(ctx));
  return caller;
#else
  return PT_REGS_RET(ctx);
#endif
}

// Where two stacks have one hash the first keeps the place. The callers alone have another hash.
static __always_inline __s32 stack_of(struct pt_regs *ctx)
{
  __s32 stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP);
  return stack >= 0 ? stack : bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | 1);
}

static __always_inline void begin(struct pt_regs *ctx, const struct laggard_operation_key *key,
                                  struct laggard_pair_totals *sums, bool ignore_repeats, bool at_entry, __u64 now)
{
  struct laggard_operation *known = bpf_map_lookup_elem(&operations, key);
  if (!known) {
    struct laggard_operation fresh = {
      .begin_ns = now,
      .caller = at_entry ? caller_of(ctx) : 0,
      .stack = stack_of(ctx),
      .count = 1,
    };
    // Counted first: its end may come on another CPU at once.
    __sync_fetch_and_add(&sums->begun, 1);
    if (!bpf_map_update_elem(&operations, key, &fresh, BPF_NOEXIST))
      return;
    __sync_fetch_and_add(&sums->begun, -1);
    known = bpf_map_lookup_elem(&operations, key);
    if (!known) {
      __sync_fetch_and_add(&sums->lost, 1);
      return;
    }
  }
  if ((__s32)known->count > 0 && ignore_repeats)
    return;
  __sync_fetch_and_add(&sums->begun, 1);
  if ((__s32)__sync_fetch_and_add(&known->count, 1) > 0)
    known->shared = 1;
  else
    known->begin_ns = now;
}

static __always_inline void end(const struct laggard_operation_key *key, struct laggard_pair_totals *sums, __u64 now)
{
  struct laggard_operation *known = bpf_map_lookup_elem(&operations, key);
  __u64 begun = known ? known->begin_ns : 0;
  __u32 before = known ? __sync_fetch_and_add(&known->count, -1) : 0;
  if ((__s32)before <= 0) {  // never begun, or another CPU was faster
    if (known)
      __sync_fetch_and_add(&known->count, 1);
    __sync_fetch_and_add(&sums->unmatched, 1);
    sums->last_end_ns = now;
    return;
  }
  __sync_fetch_and_add(&sums->ended, 1);
  sums->last_end_ns = now;
  bool shared = known->shared;
  if (before == 1)
    bpf_map_delete_elem(&operations, key);
  if (shared)
    return;
  // Two CPUs may miss each other's maximum by their own distance.
  if (begun > sums->last_ended_begin_ns)
    sums->last_ended_begin_ns = begun;
  if (now > begun && now - begun > sums->slowest_ns)
    sums->slowest_ns = now - begun;
}

static __always_inline int hit(struct pt_regs *ctx, const struct laggard_probe *probe, struct laggard_operation_key *key, bool readable,
                               bool at_entry)
{
  __u32 number = probe->pair;
  if (number >= LAGGARD_MAX_PAIRS)
    return 0;
  __u64 now = bpf_ktime_get_ns();
  struct laggard_pair_config *pair = &pairs[number];
  if (is_too_often(pair, number, now))
    return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  key->start_ns = task->group_leader->start_boottime;
  key->tgid = task->tgid;
  key->exec = task->self_exec_id;
  key->pair = number;
  struct laggard_pair_key process = {.start_ns = key->start_ns, .tgid = key->tgid, .exec = key->exec, .pair = number};
  struct laggard_pair_totals *sums = totals_of(&process);
  if (!sums) {
    __sync_fetch_and_add(&uncounted, 1);
    return 0;
  }
  if (!readable)
    __sync_fetch_and_add(&sums->unreadable, 1);
  else if (probe->role == LAGGARD_PROBE_ABANDON && bpf_map_update_elem(&abandoned, key, &now, BPF_ANY))
    __sync_fetch_and_add(&uncounted, 1);
  else if (probe->role == LAGGARD_PROBE_END)
    end(key, sums, now);
  else if (probe->role == LAGGARD_PROBE_BEGIN)
    begin(ctx, key, sums, pair->ignore_repeats, at_entry, now);
  return 0;
}

// False: memory that is not there, or not now: a probe cannot wait for a page.
static __always_inline bool follow(const struct laggard_key_source *source, __u64 *word)
{
  return !source->dereferenced || !bpf_probe_read_user(word, sizeof(*word), (void *)(*word + source->offset));
}

static __always_inline int on_function(struct pt_regs *ctx)
{
  __u64 cookie = bpf_get_attach_cookie(ctx);
  if (cookie >= LAGGARD_MAX_PROBES)
    return 0;
  const struct laggard_probe *probe = &probes[cookie];
  // A copy, because the verifier wants constant offsets into the context.
  __u64 words[sizeof(struct pt_regs) / 8];
  if (bpf_probe_read_kernel(words, sizeof(words), ctx))
    return 0;
  struct laggard_operation_key key = {};
  bool readable = true;
#pragma unroll
  for (int part = 0; part < 2; part++) {
    __u32 position = probe->keys[part].position;
    if ((__u32)part >= probe->parts)
      break;
    if (position >= sizeof(words) / 8)
      return 0;
    __u64 word = words[position];
    readable = readable && follow(&probe->keys[part], &word);
    key.key[part] = word;
  }
  return hit(ctx, probe, &key, readable, true);
}

SEC("uprobe")
int pair_uprobe(struct pt_regs *ctx)
{
  return on_function(ctx);
}

SEC("uprobe")
int pair_uprobe_multi(struct pt_regs *ctx)
{
  return on_function(ctx);
}

SEC("usdt")
int pair_usdt(struct pt_regs *ctx)
{
  __u64 cookie = bpf_usdt_cookie(ctx);
  if (cookie >= LAGGARD_MAX_PROBES)
    return 0;
  const struct laggard_probe *probe = &probes[cookie];
  struct laggard_operation_key key = {};
  bool readable = true;
#pragma unroll
  for (int part = 0; part < 2; part++) {
    long argument = 0;
    if ((__u32)part >= probe->parts)
      break;
    if (bpf_usdt_arg(ctx, probe->keys[part].position, &argument))
      return 0;
    __u64 word = argument;
    readable = readable && follow(&probe->keys[part], &word);
    key.key[part] = word;
  }
  return hit(ctx, probe, &key, readable, false);
}

char LICENSE[] SEC("license") = "GPL";
