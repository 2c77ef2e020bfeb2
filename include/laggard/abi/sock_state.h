// SPDX-License-Identifier: MIT
// What the kernel side remembers of one socket: the value of the `sockets` map (BPF_MAP_TYPE_SK_STORAGE with
// BPF_F_CLONE). It lives and dies with the socket, so nothing here is ever evicted or goes stale.
//
// Writers: the read hook (process context, after the socket lock was released), the state
// hook (softirq or process context, socket locked), the walks (process context of laggard). Two threads that read one
// socket at the same moment can lose one increment of a counter; every other race is a stale value for one tick.
#ifndef LAGGARD_ABI_SOCK_STATE_H
#define LAGGARD_ABI_SOCK_STATE_H

#include "types.h"

// log2 buckets of read sizes: bucket b counts reads of [2^b, 2^(b+1)) bytes, the last one everything from 1 MiB up.
#define LAGGARD_SIZE_BUCKETS 21

// laggard_sock_state.flags and laggard_socket_record.flags
#define LAGGARD_F_SEEDED 0x01u     // older than the observer: ages are lower bounds
#define LAGGARD_F_ACCEPTED 0x02u   // came out of a listener that we knew
#define LAGGARD_F_CONNECTED 0x04u  // connect() was seen
#define LAGGARD_F_EOF_SEEN 0x08u   // a read returned 0 after the peer closed
#define LAGGARD_F_EOF_EATEN 0x10u  // one read took the last data and the FIN: the program may or may not know
#define LAGGARD_F_ANNOUNCED 0x20u  // user space holds a record of this socket and wants to hear of its end
#define LAGGARD_F_HAS_FILE 0x40u   // record only: some process still holds the socket
#define LAGGARD_F_SOCK_DONE 0x80u  // record only: the peer's FIN has been queued
#define LAGGARD_F_UNACCEPTED 0x100u  // record only: established, and waits in an accept queue
#define LAGGARD_F_RESET 0x200u       // ended by the peer's RST
#define LAGGARD_F_TIMED_OUT 0x400u   // ended because the peer acknowledged nothing for too long
#define LAGGARD_F_KEEPALIVE 0x800u   // record only: SO_KEEPALIVE is set
#define LAGGARD_F_FIN_UNREAD 0x1000u // record only: the peer's FIN is queued and no read has passed it
#define LAGGARD_F_FIRST_READ 0x8000u // record only: the first read of an epoch tells of the reads before it
#define LAGGARD_F_RWND_LIMITS 0x10000u // record only: at this moment the peer's window holds it back
#define LAGGARD_F_FIN_READ 0x4000u   // record only: the peer's FIN has been passed by a read
#define LAGGARD_F_IN_EPOLL 0x2000u   // record only: some epoll set has the file

struct laggard_sock_state {
  // Touched by every read.
  __u32 epoch;               // the epoch that min and max belong to; 0 = never read
  __u32 min_unread_bytes;    // exact minimum after a read of this epoch; 0xffffffff = no read qualified
  __u32 max_unread_bytes;    // exact high-water mark of this epoch
  __u32 run_bytes;           // size of the current run of equal reads ...
  __u64 run_reads;           // ... and its length, not yet in the totals below
  __u64 last_read_jiffies;   // jiffies64 of the last read, whatever it returned; 0 = never
  __u64 closed_window_reads; // reads after which rcv_wup + rcv_wnd - rcv_nxt < rcv_mss

  // Touched when the read size changes.
  __u64 ended_bytes;                   // bytes of all ended runs
  __u64 sizes[LAGGARD_SIZE_BUCKETS];   // reads of all ended runs, MSG_PEEK left out

  // Touched once per epoch or per life.
  __u64 empty_reads;         // reads that returned EAGAIN: proof of an empty queue
  __u64 folded_bytes;        // how much of the bytes read the per-process total already has
  __u64 owner_start_ns;      // start_boottime of the owner's thread group leader; 0 with owner_tgid 0
  __u64 opened_jiffies;      // ESTABLISHED; 0 = not seen
  __u64 peer_closed_jiffies; // the peer's FIN; 0 = not seen
  __u64 shutdown_jiffies;    // our FIN_WAIT1; 0 = not seen
  __u32 owner_tgid;          // who connected, listened, read or held it first; 0 = not known yet
  __u32 reader_tgid;         // who read first in the latest epoch with reads; 0 = nobody yet
  __u32 flags;               // LAGGARD_F_*
  __u32 announced_drops;     // drop counter of the last record: a change makes the sweep emit

  // Touched by every TCP read that took bytes.
  __u32 read_rcv_nxt;        // rcv_nxt at that moment: while it stays, what is unread was left behind
  __u32 swept_in;            // the number of the walk over files that has shown it: many files may be of one socket
  __u64 ended_jiffies;       // left for TCP_CLOSE by a RST or a timeout; 0 = not seen
  __u64 mptcp_id;            // stands for the cookie of an MPTCP socket, which its children inherit; 0 = none yet

  // Touched once per epoch or sweep.
  __u64 first_read_jiffies;  // of `epoch`
  __u64 shown_sum;           // of what the last SOCKET record of a sweep said; 0 = there was none
  __u32 padding;
  __u32 told_epoch;          // user space has all numbers of this epoch, which is over
};

LAGGARD_ABI_ASSERT(sizeof(struct laggard_sock_state) == 328, "sock_state layout");

#endif
