/* SPDX-License-Identifier: MIT */
// What the kernel side keeps about operations that user-space programs begin and end (DESIGN 5.5): map keys and values
// that user space turns into PAIR records.
#ifndef LAGGARD_ABI_PAIRS_H
#define LAGGARD_ABI_PAIRS_H

#include "types.h"

#define LAGGARD_MAX_PAIRS 32
#define LAGGARD_MAX_OPERATIONS 65536
#define LAGGARD_PAIR_FRAMES 16  // return addresses kept of who began an operation

#define LAGGARD_MAX_PROBES 256      // functions, each by the calling conventions of the programs that have it

#define LAGGARD_MAX_CONDITIONS 4    // of one probe
#define LAGGARD_MAX_CALLS 16384     // that have not returned yet
#define LAGGARD_MAX_LANES 16384     // first parts of keys that have two: connections

#define LAGGARD_PROBE_BEGIN 0u
#define LAGGARD_PROBE_END 1u
#define LAGGARD_PROBE_ABANDON 2u  // all operations whose first part of the key it has are over
#define LAGGARD_PROBE_CALL 3u     // begins when the function returns, if all conditions hold
#define LAGGARD_PROBE_TRY 4u      // begins, and is taken back when the function returns and the condition holds

// The attach cookie is the number of a probe, and this where only one process is probed.
#define LAGGARD_COOKIE_OF_PROCESS (1ULL << 32)

// Where a value is when the probe fires. A function's: in a register; a USDT probe's: an argument that libbpf finds.
#define LAGGARD_RETURNED (~0u)
struct laggard_key_source {
  __u32 position;      // the 8-byte word in struct pt_regs, the number of the USDT argument from 0, or LAGGARD_RETURNED
  __u32 dereferenced;  // it is the 8 bytes at `offset` from there
  __s64 offset;
};

#define LAGGARD_EQUAL 0u
#define LAGGARD_NOT_EQUAL 1u
#define LAGGARD_LESS 2u
#define LAGGARD_AT_MOST 3u
#define LAGGARD_MORE 4u
#define LAGGARD_AT_LEAST 5u
// Asked when the function returns.
struct laggard_condition {
  struct laggard_key_source value;
  __s64 than;
  __u32 compare;  // LAGGARD_EQUAL...
  __u32 is_int;   // of the value only the lower 32 bits count, as a signed number: what a C function returns as int
};

struct laggard_probe {
  __u32 pair;
  __u32 role;   // LAGGARD_PROBE_*
  __u32 parts;  // of the key: 1 or 2
  __u32 conditions_count;
  struct laggard_key_source keys[2];
  struct laggard_condition conditions[LAGGARD_MAX_CONDITIONS];
};

struct laggard_pair_config {
  __u32 ignore_repeats;  // a begin whose key is outstanding is none
  __u32 by_process;      // hits with LAGGARD_COOKIE_OF_PROCESS count, and no others
};

// A call that will return: known by where its return address stands, which is unique in a process, whatever thread or
// coroutine runs there.
struct laggard_call_key {
  __u64 stack_pointer;
  __u32 tgid;
  __u32 probe;
};
struct laggard_call {
  __u64 key[2];                               // parts that the arguments gave
  __u64 values[LAGGARD_MAX_CONDITIONS];       // arguments that conditions ask for, not dereferenced yet
  __u64 caller;
  __u64 start_ns;                             // of the process
  __s32 stack;
  __u32 begun;                                // LAGGARD_PROBE_TRY: there is an operation to take back
};

// What an operation is known by.
struct laggard_operation_key {
  __u64 key[2];    // the second part is 0 where there is one
  __u64 start_ns;  // of the process, start_boottime
  __u32 tgid;
  __u32 exec;      // self_exec_id: what another program began before this one took its process over never ends
  __u32 pair;
  __u32 padding;
};

// What was begun and has not ended.
struct laggard_operation {
  __u64 begin_ns;  // CLOCK_MONOTONIC, of the first that is outstanding
  __u64 caller;    // return address of the function that begins it; 0 = unknown
  __s32 stack;     // of bpf_get_stackid(); negative: none
  __u32 count;     // with this key
  __u32 shared;    // the key was outstanding twice: it tells one operation from another no more
  __u32 padding;
};

struct laggard_pair_key {
  __u64 start_ns;
  __u32 tgid;
  __u32 exec;
  __u32 pair;
  __u32 padding;
};

// A connection's: what is older than the latest begun of its operations that ended was overtaken.
struct laggard_lane_key {
  __u64 first;  // part of the key
  struct laggard_pair_key process;
};

// Wakes user space: this process hits a pair's probes too often.
struct laggard_pair_stop {
  __u64 start_ns;
  __u32 tgid;
  __u32 pair;
};

// Totals since the process was first seen.
struct laggard_pair_totals {
  __u64 begun;
  __u64 ended;
  __u64 unmatched;            // ends of what began before we looked, or was lost
  __u64 lost;                 // begun, and no room to remember it; not in `begun`
  __u64 unreadable;           // hits whose key was in memory that was not there: swapped out, or about to be moved
  __u64 refused;              // begun and taken back: the function said that it failed; not in `begun`
  __u64 last_end_ns;          // unmatched ones too
  __u64 last_matched_ns;      // of those that ended what began
  __u64 last_ended_begin_ns;  // of the operations that ended, when the latest began: what is older was overtaken. Two-part keys:
                              // by lane
  __u64 slowest_ns;           // the longest that any took that ended
  __u64 window_ns;            // when the second in which hits are counted began
  __u64 window_hits;
  __u32 stopped;              // hit more often than the limit in a second: does nothing more
  __u32 begin_seen;           // a begin was hit, whatever became of it
};

#endif
