// SPDX-License-Identifier: GPL-2.0
// The kernel fields that laggard reads, and no others. Declared by hand so that the build needs no BTF and this file
// is the list of what a kernel change could break; CO-RE relocates every access against the running kernel.
#ifndef LAGGARD_BPF_KERNEL_H
#define LAGGARD_BPF_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include <stdbool.h>
#include <stddef.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
  int counter;
} atomic_t;
typedef struct {
  __s64 counter;
} atomic64_t;
typedef struct {
  __s64 counter;
} atomic_long_t;
typedef struct {
  atomic_t refs;
} refcount_t;

// include/net/sock.h
struct in6_addr {
  union {
    __u8 u6_addr8[16];
  } in6_u;
};
struct ns_common {
  unsigned int inum;
};
struct netns_ipv4 {
  __u8 sysctl_tcp_retries2;
};
struct net {
  struct ns_common ns;
  struct netns_ipv4 ipv4;
};
typedef struct {
  struct net *net;
} possible_net_t;

struct sock_common {
  union {
    struct {
      __be32 skc_daddr;
      __be32 skc_rcv_saddr;
    };
  };
  union {
    struct {
      __be16 skc_dport;
      __u16 skc_num;
    };
  };
  unsigned short skc_family;
  volatile unsigned char skc_state;
  possible_net_t skc_net;
  struct in6_addr skc_v6_daddr;
  struct in6_addr skc_v6_rcv_saddr;
  unsigned long skc_flags;
  refcount_t skc_refcnt;
};

struct sk_buff;
struct sk_buff_head {
  struct sk_buff *next;
  __u32 qlen;
};
struct kernfs_node {
  __u64 id;
};
struct cgroup {
  struct kernfs_node *kn;
};
struct sock_cgroup_data {
  struct cgroup *cgroup;
};
struct super_block {
  __u32 s_dev;
};
struct inode {
  unsigned long i_ino;
  struct super_block *i_sb;
};
struct hlist_head {
  void *first;
};
struct file {
  struct inode *f_inode;
  struct hlist_head *f_ep;  // 5.11
};
struct sock;
struct socket {
  struct file *file;
  struct sock *sk;
};
struct msghdr;
struct numa_drop_counters {
  atomic_t drops0;
  atomic_t drops1;
};
struct sock {
  struct sock_common __sk_common;
  atomic_t sk_drops;
  struct numa_drop_counters *sk_drop_counters;  // 6.18, replaces sk_drops for UDP
  struct sk_buff_head sk_receive_queue;
  struct {
    atomic_t rmem_alloc;
  } sk_backlog;
  int sk_rcvbuf;
  struct socket *sk_socket;
  __u16 sk_protocol;
  __u8 sk_shutdown;
  __u32 sk_ack_backlog;
  __u32 sk_max_ack_backlog;
  int sk_err;
  struct sock_cgroup_data sk_cgrp_data;
};
enum sock_flags { SOCK_DEAD, SOCK_DONE, SOCK_URGINLINE, SOCK_KEEPOPEN };

struct inet_sock {
  __be16 inet_sport;
};
struct request_sock {
  struct request_sock *dl_next;
  struct sock *sk;
};
struct request_sock_queue {
  struct request_sock *rskq_accept_head;
};
struct inet_connection_sock {
  struct request_sock_queue icsk_accept_queue;
  __u8 icsk_retransmits;
  __u8 icsk_backoff;
  __u8 icsk_probes_out;
  void *icsk_ulp_data;
  __u32 icsk_user_timeout;
  struct {
    __u32 lrcvtime;
    __u16 rcv_mss;
  } icsk_ack;
};
struct tcp_sock {
  struct inet_connection_sock inet_conn;
  __u32 rcv_nxt;
  __u32 copied_seq;
  __u32 rcv_wup;
  __u32 rcv_wnd;
  __u32 snd_una;
  __u32 snd_wnd;
  __u32 write_seq;
  __u32 lsndtime;
  __u32 rcv_tstamp;
  __u16 urg_data;
  __u32 urg_seq;
  __u32 chrono_start;
  __u32 chrono_stat[3];
  __u8 chrono_type : 2;
  __u8 is_mptcp : 1;
  __u64 bytes_received;
  __u64 bytes_acked;
  __u64 bytes_sent;
};
struct sk_buff {
  struct sk_buff *next;
  char cb[48];
};
struct mptcp_sock {
  __u64 write_seq;
  __u64 snd_una;
  __u64 ack_seq;
  __u64 bytes_received;
  __u64 bytes_consumed;               // 6.12 or earlier; not in 6.1
  struct sk_buff_head receive_queue;  // gone in 6.18
  struct sock *first;
};
struct mptcp_skb_cb {
  __u64 map_seq;
};
struct mptcp_subflow_context {
  __u32 mp_join : 1;
  struct sock *conn;
};
struct udp_sock {
  struct sk_buff_head reader_queue;
  int forward_deficit;
};

// include/linux/sched.h, mm_types.h
struct upid {
  int nr;
};
struct pid {
  unsigned int level;
  struct upid numbers[1];
};
struct css_set {
  struct cgroup *dfl_cgrp;
};
typedef struct {
  __u32 val;
} kuid_t;
struct cred {
  kuid_t uid;
};
struct percpu_counter {
  __s64 count;
  __s32 *counters;
};
struct mm_struct {
  unsigned long data_vm;
  unsigned long start_brk;
  unsigned long brk;
  struct file *exe_file;
  struct percpu_counter rss_stat[4];  // 6.2; before: struct mm_rss_stat
};
struct signal_struct {
  int nr_threads;
};
struct task_struct {
  unsigned int __state;
  struct signal_struct *signal;
  struct mm_struct *mm;
  int pid;
  int tgid;
  struct task_struct *group_leader;
  __u64 start_boottime;
  __u64 self_exec_id;
  struct css_set *cgroups;
  const struct cred *real_cred;
  struct pid *thread_pid;
  char comm[16];
};

// arch/*/include/asm/ptrace.h: what the program was doing when it entered the kernel
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
  unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
  __u64 regs[31];
  __u64 sp;
  __u64 pc;
  __u64 orig_x0;
  __s32 syscallno;
};
#endif

// include/linux/bpf.h: an array of per-CPU values keeps the __percpu pointer of each
struct bpf_array {
  void *pptrs[0];
};

// bpf iterators
struct seq_file;
struct bpf_iter_meta {
  struct seq_file *seq;
  __u64 session_id;
  __u64 seq_num;
};
struct bpf_iter__bpf_sk_storage_map {
  struct bpf_iter_meta *meta;
  struct bpf_map *map;
  struct sock *sk;
  void *value;
};
struct bpf_iter__task {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
};
struct bpf_iter__task_file {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
  __u32 fd;
  struct file *file;
};
struct bpf_iter__tcp {
  struct bpf_iter_meta *meta;
  struct sock_common *sk_common;
};

#pragma clang attribute pop

#if defined(__TARGET_ARCH_arm64)
// arch/arm64/include/uapi/asm/ptrace.h: what a uprobe's program is given, and what PT_REGS_*() of libbpf name. UAPI, so it is not
// relocated.
struct user_pt_regs {
  __u64 regs[31];
  __u64 sp;
  __u64 pc;
  __u64 pstate;
};
#endif

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000
#define EAGAIN 11
#define EPIPE 32
#define ECONNRESET 104
#define ETIMEDOUT 110
#define RCV_SHUTDOWN 1
#define SEND_SHUTDOWN 2

// include/linux/sched.h
#define TASK_INTERRUPTIBLE 1

// include/net/tcp_states.h
enum {
  TCP_ESTABLISHED = 1,
  TCP_SYN_SENT,
  TCP_SYN_RECV,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_TIME_WAIT,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_LAST_ACK,
  TCP_LISTEN,
  TCP_CLOSING,
};

// include/linux/tcp.h: enum tcp_chrono
#define TCP_CHRONO_RWND_LIMITED 2

// include/linux/mm_types_task.h: the order has not changed since 4.5
enum { MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES };

#endif
