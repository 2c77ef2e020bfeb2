// SPDX-License-Identifier: MIT
// What the kernel side keeps while it attributes one process's memory growth (DESIGN 5.3, stage 2): map values that user
// space turns into GROWTH records, and samples of where the program was, which only `laggard explain` asks for.
#ifndef LAGGARD_ABI_GROWTH_H
#define LAGGARD_ABI_GROWTH_H

#include "types.h"

// The attribution that runs; user space resets it before it attaches.
struct laggard_growth_run {
  __u64 stack_interval_ns;  // 0: count only; else the least time between two stack samples
  __u64 last_sample_ns;
  __u64 last_pages[4];      // of the suspect at the event before, by MM_*; 0 = none yet
  __u64 unsampled_pages;    // grown since the latest sample
  __u64 sample_ids;
  __u64 lost_pages;         // could not be counted: more sockets than the map has room for
  __u64 lost_samples;       // did not fit into the ring
  __u32 suspect_tgid;       // in the initial pid namespace; 0 = nobody
  __u32 generation;         // of the run: what a thread read in an earlier one is forgotten
};

// Value of the `growth` map; key: socket cookie, 0 = no socket. Pages that became resident, anonymous and shared memory;
// what is given back meanwhile is not subtracted.
struct laggard_growth {
  __u64 kernel_pages;  // while the kernel copied out of this socket; cookie 0: within any other system call
  __u64 user_pages;    // touched by a thread whose last read was of this socket; cookie 0: of a thread that read none
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
