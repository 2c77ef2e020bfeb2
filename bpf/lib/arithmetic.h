// SPDX-License-Identifier: MIT
// Arithmetic on numbers of the kernel. Plain C without helpers: the BPF programs and tests/unit compile the same lines.
#ifndef LAGGARD_BPF_ARITHMETIC_H
#define LAGGARD_BPF_ARITHMETIC_H

#include <linux/types.h>
#include <stdbool.h>

// A receive queue at one moment: rcv_nxt - copied_seq == unread_bytes, mod 2^32.
struct laggard_positions {
  __u32 rcv_nxt;
  __u32 copied_seq;
  __u32 unread_bytes;
};

// From one load each, copied_seq first: were rcv_nxt loaded twice, a packet in between would move copied_seq, which is the
// reader's alone. A queued FIN counts one in rcv_nxt, and in copied_seq once it is read; here it counts in neither.
static inline struct laggard_positions laggard_positions_of(__u32 rcv_nxt, __u32 copied_seq, bool fin_queued)
{
  struct laggard_positions positions = {rcv_nxt - (fin_queued ? 1 : 0), copied_seq, 0};
  __s32 unread = (__s32)(positions.rcv_nxt - copied_seq);
  if (unread > 0)
    positions.unread_bytes = (__u32)unread;
  else
    positions.copied_seq = positions.rcv_nxt;
  return positions;
}

// A stamp that keeps the low 32 bits of jiffies; 0 = none. Softirqs go on writing it after now_jiffies was read: one that is a
// little newer is of now. All others are of the past.
#define LAGGARD_NEWER_JIFFIES 60000u  // a minute at 1000 Hz: no program is held up for longer within one record
static inline __u64 widen_jiffies(__u32 low, __u64 now_jiffies)
{
  __u32 age = (__u32)now_jiffies - low;
  if (!low)
    return 0;
  return -age <= LAGGARD_NEWER_JIFFIES ? now_jiffies : now_jiffies - age;
}

#endif
