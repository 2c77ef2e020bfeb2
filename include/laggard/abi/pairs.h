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

#define LAGGARD_PROBE_BEGIN 0u
#define LAGGARD_PROBE_END 1u
#define LAGGARD_PROBE_ABANDON 2u  // all operations whose first part of the key it has are over

// Where a part of the key is when the probe fires. A function's: in a register; a USDT probe's: an argument that libbpf
// finds.
struct laggard_key_source {
  __u32 position;      // the 8-byte word in struct pt_regs, or the number of the USDT argument from 0
  __u32 dereferenced;  // the part is the 8 bytes at `offset` from there
  __s64 offset;
};

// By attach cookie.
struct laggard_probe {
  __u32 pair;
  __u32 role;   // LAGGARD_PROBE_*
  __u32 parts;  // of the key: 1 or 2
  __u32 padding;
  struct laggard_key_source keys[2];
};

struct laggard_pair_config {
  __u32 ignore_repeats;  // a begin whose key is outstanding is none
  __u32 stopped;         // hit more often than the limit in a second: does nothing more
  __u64 window_ns;       // when the second that is counted began
  __u64 window_hits;
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

// Totals since the process was first seen.
struct laggard_pair_totals {
  __u64 begun;
  __u64 ended;
  __u64 unmatched;            // ends of what began before we looked, or was lost
  __u64 lost;                 // begun, and no room to remember it; not in `begun`
  __u64 unreadable;           // hits whose key was in memory that was not there: swapped out, or about to be moved
  __u64 last_end_ns;          // unmatched ones too
  __u64 last_ended_begin_ns;  // of the operations that ended, when the latest began: what is older was overtaken
  __u64 slowest_ns;           // the longest that any took that ended
};

#endif
