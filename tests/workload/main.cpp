// SPDX-License-Identifier: MIT
// workload: plays programs of known, exact behaviour, for live tests, scenarios, the demo and an initramfs.
//
//   workload SCENARIO [--key value]...          workload --help lists both with their defaults
//
// There is an *observed* process (the one that is started) and its peer, a child process named workload-peer. They talk
// over loopback. Nothing but /proc and lo is needed. Nothing is left behind: the peer dies with its parent.
//
// Output, one line each, unbuffered:
//   pid=P peer_pid=Q scenario=NAME
//   ready pid=P local=ADDR:PORT peer=ADDR:PORT inode=I cookie=C netns=N peer_pid=Q sockets=N role=accepted|connected
//       of the first socket. Printed when the state that defines the scenario stands (the data has arrived, CLOSE_WAIT
//       is reached, all connections are open ...) or, for streams, when the sender has begun; with --delay-start, when
//       connected. forked-holder: pid is the child that holds the socket, opener_pid=P follows. fin-wait-2-orphan: of
//       the socket that it closed. churn, half-close: of the first visit. Unconnected UDP: peer=0.0.0.0:0.
//   error WHAT      and exit code 2; 3 when --lifetime is over; 64 for a wrong command line
//
// Commands from stdin, one per line, one line each in answer. End of input is `stop`.
//   stat     siocinq= bytes_read= reads= state= peeks= eagain= zero_reads= bytes_spliced= bytes_kept= bytes_sent=
//            visits= sockets= siocinq_total= rmem_alloc= rcvbuf= drops=
//            siocinq, state, rmem_alloc, rcvbuf, drops: of the first socket now; -1 or `none` when closed (SIOCINQ of
//            UDP is the size of the first datagram). siocinq_total: of all sockets. reads: calls that returned 0 or
//            more bytes, without peeks and splices; zero_reads: those that returned 0 (TCP). bytes_sent: by the peer
//            into its socket. state: ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE_WAIT LAST_ACK CLOSING TIME_WAIT CLOSE none.
//   stop     closes everything, answers `ok stopped` and exits 0
//   start    ends --delay-start; `ok <facts of stat>` when the state of the scenario stands
//   pause [reader|peer]   resume [reader|peer]   what the scenario does by itself; without an argument both ends
// On the first socket of any scenario; each answers `ok [facts] <facts of stat>` or `error WHAT`:
//   read N SIZE     N blocking calls          calls= bytes=        peek N SIZE   the same with MSG_PEEK
//   read-eagain     one call that must find nothing                read-all [SIZE]   until EAGAIN or 0   calls= bytes=
//   splice N        socket to pipe            calls= bytes=        recvmmsg N SIZE   one call         messages= bytes=
//   shutdown        SHUT_WR, until acknowledged                    close
//   fork-close      a child goes on with everything, this process closes its copy and waits   child_pid= opener_pid=
//   reopen          closes it and opens another: `ok` and the facts of `ready`
// At the peer, answered when it has arrived here (an error after --deadline):
//   send N          N bytes                   sent=                send N SIZE   N datagrams   sent= dropped=
//   send-fin N      N bytes and the FIN on the last segment        peer-fin   SHUT_WR         peer-close
// Where the sender streams, `send` is refused, and a FIN arrives only after all that its send buffer holds.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <sstream>

#include "commands.h"
#include "scenario.h"

namespace workload {
namespace {

class Program {
 public:
  explicit Program(const Options& options) : world_(options), scenario_(make_scenario(options))
  {
    world_.set_idle([this] { step(); });
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void run();

 private:
  void set_up();
  void begin();
  void step();
  void wait_and_step();
  void take_commands();
  Line answer(const std::vector<std::string>& words);
  Line pause(const std::vector<std::string>& words);

  World world_;
  std::unique_ptr<Scenario> scenario_;
  bool started_ = false;
  bool stopped_ = false;
  bool paused_ = false;
  TimePoint start_at_ = TimePoint::max();
  std::string input_;
};

void Program::run()
{
  set_up();
  while (!stopped_)
    wait_and_step();
}

void Program::set_up()
{
  const Options& options = world_.options();
  scenario_->connect(world_);
  world_.freeze_identity();
  if (!options.delayed)
    begin();
  else if (options.delay)
    start_at_ = Clock::now() + *options.delay;
  Line{"ready"}.append(world_.ready()).print();
}

void Program::begin()
{
  started_ = true;
  start_at_ = TimePoint::max();
  scenario_->start(world_);
}

void Program::step()
{
  if (!started_ || paused_)
    return;
  pollfd polled{scenario_->watched(world_), POLLIN, 0};
  ::poll(&polled, 1, 0);
  scenario_->step(world_, polled.revents != 0, Clock::now());
}

void Program::wait_and_step()
{
  const bool plays = started_ && !paused_;
  const TimePoint wake = plays ? scenario_->wake() : start_at_;
  int timeout = -1;
  if (wake != TimePoint::max()) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wake - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(ms, 0, 60'000));
  }
  pollfd polled[2] = {{world_.options().from_stdin ? STDIN_FILENO : -1, POLLIN, 0},
                      {plays ? scenario_->watched(world_) : -1, POLLIN, 0}};
  if (::poll(polled, 2, timeout) < 0)
    return;
  if (Clock::now() >= start_at_)
    begin();
  else
    step();
  if (polled[0].revents != 0)
    take_commands();
}

void Program::take_commands()
{
  char block[4096];
  const ssize_t count = ::read(STDIN_FILENO, block, sizeof block);
  if (count <= 0) {
    stopped_ = true;
    return;
  }
  input_.append(block, static_cast<std::size_t>(count));
  std::size_t end = 0;
  while (!stopped_ && (end = input_.find('\n')) != std::string::npos) {
    std::istringstream line{input_.substr(0, end)};
    input_.erase(0, end + 1);
    std::vector<std::string> words;
    for (std::string word; line >> word;)
      words.push_back(word);
    if (!words.empty())
      answer(words).print();
  }
}

Line Program::answer(const std::vector<std::string>& words)
{
  if (words[0] == "stat")
    return world_.stat();
  if (words[0] == "stop") {
    world_.close_all();
    stopped_ = true;
    return Line{"ok stopped"};
  }
  if (words[0] == "start") {
    if (started_)
      return Line{"error started already"};
    begin();
    return Line{"ok"}.append(world_.stat());
  }
  if (words[0] == "pause" || words[0] == "resume")
    return pause(words);
  return run_command(world_, words);
}

Line Program::pause(const std::vector<std::string>& words)
{
  const bool on = words[0] == "pause";
  const std::string who = words.size() > 1 ? words[1] : "both";
  if (who != "both" && who != "reader" && who != "peer")
    return Line{"error pause and resume know reader and peer"};
  if (who != "peer")
    paused_ = on;
  if (who != "reader") {
    PeerRequest request;
    request.op = PeerOp::pause;
    request.flag = on ? 1 : 0;
    world_.peer().ask(request);
  }
  return Line{"ok"}.append(world_.stat());
}

}  // namespace
}  // namespace workload

int main(int count, char** values)
{
  const std::vector<std::string> arguments(values + 1, values + count);
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    std::fputs(workload::help_text().c_str(), arguments.empty() ? stderr : stdout);
    return arguments.empty() ? 64 : 0;
  }
  workload::Options options;
  try {
    options = workload::parse_options(arguments);
  } catch (const workload::Failure& failure) {
    workload::Line{std::string("error ") + failure.what()}.print();
    return 64;
  }
  try {
    workload::guard_lifetime(options.lifetime);
    workload::Program{options}.run();
  } catch (const workload::Failure& failure) {
    workload::Line{std::string("error ") + failure.what()}.print();
    return 2;
  }
  return 0;
}
