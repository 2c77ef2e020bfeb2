// SPDX-License-Identifier: MIT
// What one attribution costs while it runs (DESIGN 5.3, stage 2): the suspect, which reads a page from a socket into fresh
// memory again and again, and a bystander, which only touches fresh memory. Rounds without and with it alternate; their
// ratio counts.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <vector>

#include "base/fd.h"
#include "bench/harness.h"
#include "source/decode.h"
#include "source/live/live_source.h"

namespace {

using namespace laggard;
using bench::connect_pair;
using bench::Pair;
using bench::quartile;
using namespace std::chrono_literals;

constexpr std::size_t kPage = 4096, kPages = 4096;
constexpr double kSuspectBudget = 1.5, kBystanderBudget = 1.2;

// ns per fresh page, each with a page of payload if `pair`.
double measure(const Pair* pair)
{
  static char payload[kPage];
  void* mapped = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ::madvise(mapped, kPages * kPage, MADV_NOHUGEPAGE);
  char* memory = static_cast<char*>(mapped);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < kPages; i++) {
    char* page = memory + i * kPage;
    if (pair == nullptr)
      *page = 1;
    else if (::write(pair->writer.get(), payload, kPage) != kPage || ::recv(pair->reader.get(), page, kPage, MSG_WAITALL) != kPage)
      std::abort();
  }
  const auto spent = std::chrono::steady_clock::now() - start;
  ::munmap(mapped, kPages * kPage);
  return std::chrono::duration<double, std::nano>(spent).count() / kPages;
}

// A child that measures whenever it is asked.
class Worker {
 public:
  explicit Worker(bool reads)
  {
    int ask[2], answer[2];
    if (::pipe(ask) != 0 || ::pipe(answer) != 0)
      std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ask[1]);
      ::close(answer[0]);
      const Pair pair = connect_pair();
      for (char word = 0; ::read(ask[0], &word, 1) == 1;) {
        const double ns = measure(reads ? &pair : nullptr);
        if (::write(answer[1], &ns, sizeof ns) != sizeof ns)
          break;
      }
      ::_exit(0);
    }
    ::close(ask[0]);
    ::close(answer[1]);
    ask_.reset(ask[1]);
    answer_.reset(answer[0]);
  }
  ~Worker()
  {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  double measure_once()
  {
    double ns = 0;
    if (::write(ask_.get(), "m", 1) != 1 || ::read(answer_.get(), &ns, sizeof ns) != sizeof ns)
      std::abort();
    return ns;
  }
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_ = -1;
  Fd ask_, answer_;
};

}  // namespace

int main(int argc, char** argv)
{
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 60;
  Worker suspect{true}, bystander{false};
  auto source = source::live::LiveSource::open({});
  if (!source || !(*source)->can_attribute()) {
    fmt::print("SKIP attribution cost: {}\n", source ? "no hook of this kernel tells with what memory grows" : source.error().message());
    return 77;
  }
  model::ProcessId id;
  if (const auto raw = (*source)->tick(source::live::LiveSource::Look::Due))
    if (const auto tick = source::decode(*raw))
      for (const model::ProcessSample& process : tick->processes)
        if (process.id.tgid == suspect.pid())
          id = process.id;

  std::vector<double> ns[2][2];  // [suspect][attributed]
  for (int round = -2; round < rounds; round++) {  // the first two warm up
    for (const int attributed : {0, 1}) {
      if (attributed != 0 && !(*source)->attribute({.process = id, .duration = 1min, .stack_interval = {}}))
        return 1;
      const double of_suspect = suspect.measure_once(), of_bystander = bystander.measure_once();
      if (round >= 0) {
        ns[1][attributed].push_back(of_suspect);
        ns[0][attributed].push_back(of_bystander);
      }
      if (attributed == 0)
        continue;
      (*source)->attributions().stop();
      if (!(*source)->tick(source::live::LiveSource::Look::Due))
        return 1;
    }
  }
  double ratio[2];
  for (const int who : {1, 0}) {
    const double without = quartile(ns[who][0]), with = quartile(ns[who][1]);
    ratio[who] = with / without;
    fmt::print("{}: {:.0f} ns per page without, {:.0f} ns with attribution = {:.2f} x (budget {:.2f})\n",
               who == 1 ? "suspect, reads into fresh memory" : "bystander, touches fresh memory", without, with, ratio[who],
               who == 1 ? kSuspectBudget : kBystanderBudget);
  }
  return ratio[1] <= kSuspectBudget && ratio[0] <= kBystanderBudget ? 0 : 1;
}
