// SPDX-License-Identifier: GPL-2.0
// Feeds `holders` (who holds which socket, in every namespace, also sockets older than us), `unaccepted` (connections
// older than us that nobody holds yet) and `processes` (memory).
#include "lib/record.bpf.h"

SEC("iter/task_file")
int holders(struct bpf_iter__task_file *ctx)
{
  struct task_struct *task = ctx->task;
  struct file *file = ctx->file;
  if (!task || !file)
    return 0;
  struct socket *sock = bpf_sock_from_file(file);
  if (!sock)
    return 0;
  struct sock *sk = sock->sk;
  if (!sk || !is_tracked(sk))
    return 0;
  struct laggard_sock_state *state = state_of_file(sk, task);
  if (!state)
    return 0;
  show_holder(ctx->meta->seq, task, ctx->fd, sk, state);
  return 0;
}

// Run once, after the holders: a connection that waited in an accept queue before we came has no file to find it by, and
// passes no hook until it is accepted. Of laggard's own network namespace only; the others show theirs as they come.
SEC("iter/tcp")
int unaccepted(struct bpf_iter__tcp *ctx)
{
  struct sock_common *common = ctx->sk_common;
  if (!common || (common->skc_state != TCP_ESTABLISHED && common->skc_state != TCP_CLOSE_WAIT))
    return 0;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(common);
  if (!tp)
    return 0;
  struct sock *sk = (struct sock *)tp;
  if (!is_unaccepted(sk) || bpf_sk_storage_get(&sockets, sk, NULL, 0))
    return 0;
  struct laggard_sock_state *state = create_state(sk);
  if (!state)
    return 0;
  state->flags = LAGGARD_F_SEEDED | LAGGARD_F_ACCEPTED;
  return 0;
}

SEC("iter/task")
int processes(struct bpf_iter__task *ctx)
{
  struct task_struct *task = ctx->task;
  if (!task || task->pid != task->tgid)
    return 0;
  struct mm_struct *mm = task->mm;
  if (!mm)
    return 0;  // a kernel thread, or a process on its way out
  struct laggard_process_record record;
  __builtin_memset(&record, 0, sizeof(record));
  record.header.kind = LAGGARD_RECORD_PROCESS;
  record.header.size = sizeof(record);
  record.header.epoch = epoch;
  record.tgid = task->tgid;
  record.start_ns = task->start_boottime;
  record.uid = BPF_CORE_READ(task, real_cred, uid.val);
  if (bpf_core_field_exists(task->cgroups->dfl_cgrp))
    record.cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
  struct pid *pid = task->thread_pid;
  if (pid) {
    unsigned long offset = bpf_core_field_offset(pid->numbers) +
                           BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
    bpf_probe_read_kernel(&record.vpid, sizeof(record.vpid), (void *)pid + offset);
  }
  record.anon_pages = mm_pages(mm, MM_ANONPAGES, &record.rss_error_pages);
  record.swap_pages = mm_pages(mm, MM_SWAPENTS, &record.rss_error_pages);
  record.shmem_pages = mm_pages(mm, MM_SHMEMPAGES, &record.rss_error_pages);
  record.data_vm_pages = mm->data_vm;
  record.brk_bytes = mm->brk - mm->start_brk;
  struct process_totals *total = bpf_map_lookup_elem(&totals, &record.tgid);
  if (total) {
    record.read_bytes = total->read_bytes;
    record.uses_sockets = total->used >= SOCKETS_TRIED;
  }
  __builtin_memcpy(record.comm, task->comm, sizeof(record.comm));
  record.threads = BPF_CORE_READ(task, signal, nr_threads);
  struct inode *executable = BPF_CORE_READ(mm, exe_file, f_inode);
  record.exe_inode = BPF_CORE_READ(executable, i_ino);
  record.exe_device = BPF_CORE_READ(executable, i_sb, s_dev);
  record.waits = sleeps_in_epoll_wait(task) ? LAGGARD_WAITS_EPOLL : LAGGARD_WAITS_OTHERWISE;
  bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
