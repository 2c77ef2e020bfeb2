// SPDX-License-Identifier: GPL-2.0
// Feed `pairs`: operations that programs begin and should end, by probes in their own code (DESIGN 5.5). An object of its
// own, loaded only for --pairs. The programs differ in how a kernel attaches them, and in whether they see a function's entry
// or its return.
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

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, LAGGARD_MAX_CALLS);
  __type(key, struct laggard_call_key);
  __type(value, struct laggard_call);
} calls SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, LAGGARD_MAX_LANES);
  __type(key, struct laggard_lane_key);
  __type(value, __u64);  // last_ended_begin_ns
} lanes SEC(".maps");

// When the operations of a first part ended, all at once: key[1] is 0. User space takes these.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 16384);
  __type(key, struct laggard_operation_key);
  __type(value, __u64);
} abandoned SEC(".maps");

// Of struct laggard_pair_stop.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 16);  // a page, where pages are large
} stops SEC(".maps");

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

// A probe costs the program more than a microsecond. Above the limit it does nothing for this process from here on, and is
// detached as soon as user space wakes.
static __always_inline bool is_too_often(struct laggard_pair_totals *sums, const struct laggard_pair_key *key, __u64 now)
{
  if (sums->stopped)
    return true;
  if (now - sums->window_ns >= 1000000000ULL) {
    sums->window_ns = now;
    sums->window_hits = 0;
  }
  if (__sync_fetch_and_add(&sums->window_hits, 1) < hits_per_second_limit)
    return false;
  if (!__sync_lock_test_and_set(&sums->stopped, 1)) {
    struct laggard_pair_stop stop = {.start_ns = key->start_ns, .tgid = key->tgid, .pair = key->pair};
    bpf_ringbuf_output(&stops, &stop, sizeof(stop), 0);
  }
  return true;
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

// False: it is no operation of its own.
static __always_inline bool begin(const struct laggard_operation_key *key, struct laggard_pair_totals *sums, bool ignore_repeats,
                                  __u64 caller, __s32 stack, __u64 now)
{
  struct laggard_operation *known = bpf_map_lookup_elem(&operations, key);
  if (!known) {
    struct laggard_operation fresh = {.begin_ns = now, .caller = caller, .stack = stack, .count = 1};
    // Counted first: its end may come on another CPU at once.
    __sync_fetch_and_add(&sums->begun, 1);
    if (!bpf_map_update_elem(&operations, key, &fresh, BPF_NOEXIST))
      return true;
    __sync_fetch_and_add(&sums->begun, -1);
    known = bpf_map_lookup_elem(&operations, key);
    if (!known) {
      __sync_fetch_and_add(&sums->lost, 1);
      return false;
    }
  }
  if ((__s32)known->count > 0 && ignore_repeats)
    return false;
  __sync_fetch_and_add(&sums->begun, 1);
  if ((__s32)__sync_fetch_and_add(&known->count, 1) > 0)
    known->shared = 1;
  else
    known->begin_ns = now;
  return true;
}

// How many were outstanding with this key before this one, which is not any more; 0: none were, or another CPU was faster.
static __always_inline __u32 take_one(struct laggard_operation *known)
{
  __u32 before = known ? __sync_fetch_and_add(&known->count, -1) : 0;
  if ((__s32)before > 0)
    return before;
  if (known)
    __sync_fetch_and_add(&known->count, 1);
  return 0;
}

// Two CPUs may miss each other's maximum by their own distance.
static __always_inline void overtake(const struct laggard_operation_key *key, bool has_lane, struct laggard_pair_totals *sums, __u64 begun)
{
  if (!has_lane) {
    if (begun > sums->last_ended_begin_ns)
      sums->last_ended_begin_ns = begun;
    return;
  }
  struct laggard_lane_key lane = {
    .first = key->key[0],
    .process = {.start_ns = key->start_ns, .tgid = key->tgid, .exec = key->exec, .pair = key->pair},
  };
  __u64 *latest = bpf_map_lookup_elem(&lanes, &lane);
  if (latest) {
    if (begun > *latest)
      *latest = begun;
  } else if (bpf_map_update_elem(&lanes, &lane, &begun, BPF_ANY)) {
    __sync_fetch_and_add(&uncounted, 1);
  }
}

static __always_inline void end(const struct laggard_operation_key *key, bool has_lane, struct laggard_pair_totals *sums, __u64 now)
{
  struct laggard_operation *known = bpf_map_lookup_elem(&operations, key);
  __u64 begun = known ? known->begin_ns : 0;
  sums->last_end_ns = now;
  __u32 before = take_one(known);
  if (!before) {
    __sync_fetch_and_add(&sums->unmatched, 1);
    return;
  }
  sums->last_matched_ns = now;
  __sync_fetch_and_add(&sums->ended, 1);
  bool shared = known && known->shared;
  if (before == 1)
    bpf_map_delete_elem(&operations, key);
  if (shared)
    return;
  overtake(key, has_lane, sums, begun);
  if (now > begun && now - begun > sums->slowest_ns)
    sums->slowest_ns = now - begun;
}

static __always_inline void take_back(const struct laggard_operation_key *key, struct laggard_pair_totals *sums)
{
  __u32 before = take_one(bpf_map_lookup_elem(&operations, key));
  if (!before)
    return;  // it has ended all the same
  __sync_fetch_and_add(&sums->begun, -1);
  __sync_fetch_and_add(&sums->refused, 1);
  if (before == 1)
    bpf_map_delete_elem(&operations, key);
}

// The verifier wants the very register that was compared.
static __always_inline const struct laggard_probe *probe_of(__u64 cookie)
{
  __u64 number = cookie & (LAGGARD_COOKIE_OF_PROCESS - 1);
  if (number >= LAGGARD_MAX_PROBES)
    return NULL;
  asm volatile("" : "+r"(number));
  return &probes[number];
}

// Who hit it; fills all of the key but its parts. NULL: nobody that counts.
static __always_inline struct laggard_pair_totals *who_hit(__u64 cookie, const struct laggard_probe *probe,
                                                            struct laggard_operation_key *key, __u64 now)
{
  __u32 number = probe->pair;
  if (number >= LAGGARD_MAX_PAIRS || pairs[number].by_process != (cookie >> 32))
    return NULL;
  struct task_struct *task = bpf_get_current_task_btf();
  key->start_ns = task->group_leader->start_boottime;
  key->tgid = task->tgid;
  key->exec = task->self_exec_id;
  key->pair = number;
  struct laggard_pair_key process = {.start_ns = key->start_ns, .tgid = key->tgid, .exec = key->exec, .pair = number};
  struct laggard_pair_totals *sums = totals_of(&process);
  if (!sums)
    __sync_fetch_and_add(&uncounted, 1);
  else if (!is_too_often(sums, &process, now))
    return sums;
  return NULL;
}

static __always_inline void hit(struct pt_regs *ctx, const struct laggard_probe *probe, struct laggard_operation_key *key,
                                struct laggard_pair_totals *sums, bool readable, __u64 caller, __u64 now)
{
  if (probe->role == LAGGARD_PROBE_BEGIN)
    sums->begin_seen = 1;
  if (!readable)
    __sync_fetch_and_add(&sums->unreadable, 1);
  else if (probe->role == LAGGARD_PROBE_ABANDON && bpf_map_update_elem(&abandoned, key, &now, BPF_ANY))
    __sync_fetch_and_add(&uncounted, 1);
  else if (probe->role == LAGGARD_PROBE_END)
    end(key, probe->parts > 1, sums, now);
  else if (probe->role == LAGGARD_PROBE_BEGIN && probe->pair < LAGGARD_MAX_PAIRS)
    begin(key, sums, pairs[probe->pair].ignore_repeats, caller, stack_of(ctx), now);
}

// False: memory that is not there, or not now: a probe cannot wait for a page.
static __always_inline bool follow(const struct laggard_key_source *source, __u64 *word)
{
  return !source->dereferenced || !bpf_probe_read_user(word, sizeof(*word), (void *)(*word + source->offset));
}

// Of a copy, because the verifier wants constant offsets into the context.
static __always_inline __u64 word_of(const __u64 *words, __u32 position)
{
  return position < sizeof(struct pt_regs) / 8 ? words[position] : 0;
}

static __always_inline struct laggard_call_key call_of(struct pt_regs *ctx, __u32 tgid, __u32 probe, bool returned)
{
  struct laggard_call_key key = {.stack_pointer = PT_REGS_SP(ctx), .tgid = tgid, .probe = probe};
#if defined(__TARGET_ARCH_x86)
  if (returned)
    key.stack_pointer -= 8;  // the return address has been taken
#endif
  return key;
}

static __always_inline int on_entry(struct pt_regs *ctx)
{
  __u64 cookie = bpf_get_attach_cookie(ctx);
  const struct laggard_probe *probe = probe_of(cookie);
  if (!probe)
    return 0;
  __u64 now = bpf_ktime_get_ns();
  struct laggard_operation_key key = {};
  struct laggard_pair_totals *sums = who_hit(cookie, probe, &key, now);
  if (!sums)
    return 0;
  __u64 words[sizeof(struct pt_regs) / 8];
  if (bpf_probe_read_kernel(words, sizeof(words), ctx))
    return 0;
  bool readable = true;
#pragma unroll
  for (int part = 0; part < 2; part++) {
    if ((__u32)part >= probe->parts)
      break;
    if (probe->keys[part].position == LAGGARD_RETURNED)
      continue;
    __u64 word = word_of(words, probe->keys[part].position);
    readable = readable && follow(&probe->keys[part], &word);
    key.key[part] = word;
  }
  // Who ends an operation is not asked for.
  bool ends = probe->role == LAGGARD_PROBE_END || probe->role == LAGGARD_PROBE_ABANDON;
  __u64 caller = ends ? 0 : caller_of(ctx);
  if (probe->role < LAGGARD_PROBE_CALL) {
    hit(ctx, probe, &key, sums, readable, caller, now);
    return 0;
  }
  sums->begin_seen = 1;
  if (!readable) {
    __sync_fetch_and_add(&sums->unreadable, 1);
    return 0;
  }
  struct laggard_call call = {
    .key = {key.key[0], key.key[1]}, .caller = caller, .start_ns = key.start_ns, .stack = stack_of(ctx)};
#pragma unroll
  for (int i = 0; i < LAGGARD_MAX_CONDITIONS; i++)
    call.values[i] = word_of(words, probe->conditions[i].value.position);
  if (probe->role == LAGGARD_PROBE_TRY && probe->pair < LAGGARD_MAX_PAIRS)
    call.begun = begin(&key, sums, pairs[probe->pair].ignore_repeats, caller, call.stack, now);
  struct laggard_call_key where = call_of(ctx, key.tgid, cookie, false);
  if (bpf_map_update_elem(&calls, &where, &call, BPF_ANY) && probe->role == LAGGARD_PROBE_CALL)
    __sync_fetch_and_add(&sums->lost, 1);
  return 0;
}

static __always_inline bool holds(const struct laggard_condition *condition, __u64 word)
{
  __s64 value = condition->is_int ? (__s64)(__s32)word : (__s64)word;
  switch (condition->compare) {
    case LAGGARD_EQUAL: return value == condition->than;
    case LAGGARD_NOT_EQUAL: return value != condition->than;
    case LAGGARD_LESS: return value < condition->than;
    case LAGGARD_AT_MOST: return value <= condition->than;
    case LAGGARD_MORE: return value > condition->than;
    default: return value >= condition->than;
  }
}

static __always_inline int on_return(struct pt_regs *ctx)
{
  __u64 cookie = bpf_get_attach_cookie(ctx);
  const struct laggard_probe *probe = probe_of(cookie);
  if (!probe)
    return 0;
  __u64 now = bpf_ktime_get_ns();
  struct laggard_operation_key key = {};
  struct laggard_pair_totals *sums = who_hit(cookie, probe, &key, now);
  if (!sums)
    return 0;
  struct laggard_call_key where = call_of(ctx, key.tgid, cookie, true);
  struct laggard_call *known = bpf_map_lookup_elem(&calls, &where);
  if (!known)
    return 0;  // it was entered before we came
  struct laggard_call call = *known;
  bpf_map_delete_elem(&calls, &where);
  __u64 returned = PT_REGS_RC(ctx);
  bool readable = true, all_hold = true;
#pragma unroll
  for (int i = 0; i < LAGGARD_MAX_CONDITIONS; i++) {
    if ((__u32)i >= probe->conditions_count)
      break;
    const struct laggard_condition *condition = &probe->conditions[i];
    __u64 word = condition->value.position == LAGGARD_RETURNED ? returned : call.values[i];
    readable = readable && follow(&condition->value, &word);
    all_hold = all_hold && holds(condition, word);
  }
#pragma unroll
  for (int part = 0; part < 2; part++) {
    key.key[part] = call.key[part];
    if ((__u32)part >= probe->parts || probe->keys[part].position != LAGGARD_RETURNED)
      continue;
    __u64 word = returned;
    readable = readable && follow(&probe->keys[part], &word);
    key.key[part] = word;
  }
  if (!all_hold)
    return 0;
  if (!readable)
    __sync_fetch_and_add(&sums->unreadable, 1);
  else if (probe->role == LAGGARD_PROBE_TRY && call.begun)
    take_back(&key, sums);
  else if (probe->role == LAGGARD_PROBE_CALL && probe->pair < LAGGARD_MAX_PAIRS)
    begin(&key, sums, pairs[probe->pair].ignore_repeats, call.caller, call.stack, now);
  return 0;
}

SEC("uprobe")
int pair_uprobe(struct pt_regs *ctx)
{
  return on_entry(ctx);
}

SEC("uprobe")
int pair_uprobe_multi(struct pt_regs *ctx)
{
  return on_entry(ctx);
}

SEC("uretprobe")
int pair_uretprobe(struct pt_regs *ctx)
{
  return on_return(ctx);
}

SEC("uretprobe")
int pair_uretprobe_multi(struct pt_regs *ctx)
{
  return on_return(ctx);
}

SEC("usdt")
int pair_usdt(struct pt_regs *ctx)
{
  __u64 cookie = bpf_usdt_cookie(ctx);
  const struct laggard_probe *probe = probe_of(cookie);
  if (!probe)
    return 0;
  __u64 now = bpf_ktime_get_ns();
  struct laggard_operation_key key = {};
  struct laggard_pair_totals *sums = who_hit(cookie, probe, &key, now);
  if (!sums)
    return 0;
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
  hit(ctx, probe, &key, sums, readable, 0, now);  // in the middle of a function: the stack has its caller
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
