// SPDX-License-Identifier: MIT
#include "peer.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "peer_process.h"

namespace workload {

Peer::Peer(const Options& options)
{
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ends[2] = {-1, -1};
  if (page == MAP_FAILED || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    fail_errno("set up the peer");
  bytes_sent_ = new (page) std::atomic<std::uint64_t>(0);
  control_ = Fd{ends[0]};
  Fd theirs{ends[1]};
  const pid_t parent = ::getpid();
  tgid_ = child_ = ::fork();
  if (child_ < 0)
    fail_errno("fork the peer");
  if (child_ > 0)
    return;
  die_with_parent(parent);
  control_.reset();
  ::prctl(PR_SET_NAME, "workload-peer", 0L, 0L, 0L);
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(static_cast<unsigned>(std::chrono::ceil<std::chrono::seconds>(options.lifetime).count() + 2));
  ::close(STDIN_FILENO);
  ::close(STDOUT_FILENO);
  PeerProcess process{std::move(theirs), bytes_sent_};
  process.run();
  ::_exit(0);
}

Address Peer::ask(const PeerRequest& request)
{
  PeerReply reply;
  if (::send(control_.get(), &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
    fail_errno("the peer process is gone");
  if (::recv(control_.get(), &reply, sizeof reply, 0) != sizeof reply)
    throw Failure("the peer process ended");
  errno = reply.error;
  if (reply.error != 0)
    fail_errno("the peer");
  return reply.address;
}

void Peer::end()
{
  control_.reset();
  if (child_ <= 0)
    return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = 0;
}

}  // namespace workload
