// SPDX-License-Identifier: MIT
// What the kernel side keeps while it attributes the memory growth of some processes (DESIGN 5.3, stage 2): map values that
// user space turns into GROWTH records, and samples of where a program was, which only `laggard explain` asks for.
#ifndef LAGGARD_ABI_GROWTH_H
#define LAGGARD_ABI_GROWTH_H

#include "types.h"

#define LAGGARD_MAX_SUSPECTS 16  // at the same time

// Value of the `suspects` map; key: tgid in the initial pid namespace. User space makes it when an attribution begins and
// takes it away when it ends.
struct laggard_suspect {
  __u64 stack_interval_ns;  // 0: count only; else the least time between two stack samples
  __u64 last_sample_ns;
  __u64 first_pages[4];     // before the first event, by MM_*
  __u64 last_pages[4];      // at the latest event; 0 = none yet
  __u64 unsampled_pages;    // grown since the latest sample
  __u64 sample_ids;
  __u64 lost_pages;         // could not be counted: more sockets than the map has room for
  __u64 lost_samples;       // did not fit into the ring
  __u32 generation;         // of the attribution, never used again: what a thread read in an earlier one is forgotten
  __u32 index;              // below LAGGARD_MAX_SUSPECTS, its own while it runs
};

struct laggard_growth_key {
  __u64 cookie;      // of the socket; 0 = none
  __u32 generation;  // of the attribution
  __u32 padding;
};

// Reads that follow each other within the first are one turn, as long as it does not last for longer than the second: a
// message may need several, and a stream that never pauses is told in parts.
#define LAGGARD_TURN_PAUSE_NS 10000000ull
#define LAGGARD_TURN_MAX_NS 100000000ull

// Value of the `growth` map. Pages that became resident, anonymous and shared memory; what is given back meanwhile is not
// subtracted.
struct laggard_growth {
  __u64 kernel_pages;  // while the kernel copied out of this socket; cookie 0: within any other system call
  __u64 user_pages;    // touched by a thread whose last read was of this socket; cookie 0: of a thread that read none
  __u64 reads;         // by the suspect, as long as the attribution runs
  __u64 read_bytes;
  __u64 turns;         // TCP: that ended
  __u64 answered;      // of them those after which the program sent something over the same socket, before the next one
  __u64 turn_began_ns;
  __u64 last_read_ns;  // 0: no turn has begun
  __u32 write_seq;     // when the turn began
  __u32 accepted;      // 1: came out of a listener that we knew
};

// DWARF numbers of the general registers: x86-64 rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip, aarch64 x0..x30 sp pc.
#define LAGGARD_MAX_REGISTERS 33
#define LAGGARD_STACK_PAGE 4096
#define LAGGARD_STACK_BYTES (4 * LAGGARD_STACK_PAGE)

#define LAGGARD_SAMPLE_STACK 1u
#define LAGGARD_SAMPLE_OWNER 2u

// Ring `samples`, kind STACK: where the program was when it grew.
struct laggard_stack_sample {
  __u32 kind;
  __u32 tid;
  __u64 id;            // counts from 1
  __u64 cookie;        // the socket that the thread read last; 0 = none
  __u64 pages;         // all growth since the sample before this one
  __u32 in_syscall;    // the pages were touched by the kernel; an OWNER may follow
  __u32 register_count;
  __u64 registers[LAGGARD_MAX_REGISTERS];
  __u64 stack_address; // of stack[0]: where the page of the stack pointer begins
  __u64 stack_bytes;   // of `stack` that could be read
  __u8 stack[LAGGARD_STACK_BYTES];
};

// Kind OWNER: the system call that sample `id` interrupted was a read of this socket.
struct laggard_stack_owner {
  __u32 kind;
  __u32 padding;
  __u64 id;
  __u64 cookie;
};

#endif
