// SPDX-License-Identifier: MIT
// What the live tests of --pairs share: functions that are probed, programs that call them, and what was counted.
#pragma once

#include <fcntl.h>
#include <laggard/abi/records.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/fd.h"
#include "harness.h"
#include "source/decode.h"
#include "source/live/pair_probe.h"

// What is probed: see pairs_support.cpp.
extern "C" {
void laggard_test_begin(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e);
void laggard_test_end(std::uint64_t a, std::uint64_t b);
void laggard_test_cancel(std::uint64_t a, std::uint64_t b);
void laggard_test_close(std::uint64_t a);
int laggard_test_try(std::uint64_t key);
void* laggard_test_open(std::uint64_t number);
std::uint64_t laggard_test_take(const std::uint64_t* left);
void laggard_test_caller(std::uint64_t key);
}

namespace laggard::test {
using source::KeySource;
using source::PairSpec;
using source::live::PairProbe;

namespace fs = std::filesystem;

inline std::string this_program() { return fs::read_symlink("/proc/self/exe").string(); }

// A child that works when it is told to, and then waits.
class Worker {
 public:
  explicit Worker(std::function<void()> work)
  {
    int go[2], done[2];
    if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(done, O_CLOEXEC) != 0)
      throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      for (char byte = 0; ::read(go[0], &byte, 1) == 1;) {
        work();
        if (::write(done[1], &byte, 1) != 1)
          break;
      }
      ::_exit(0);
    }
    ::close(go[0]);
    ::close(done[1]);
    go_.reset(go[1]);
    done_.reset(done[0]);
  }
  ~Worker()
  {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void work()
  {
    char byte = 1;
    if (::write(go_.get(), &byte, 1) != 1 || ::read(done_.get(), &byte, 1) != 1)
      throw std::runtime_error("the worker has left");
  }
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_ = -1;
  Fd go_, done_;
};

inline KeySource argument(unsigned number) { return {number, std::nullopt}; }

inline PairSpec pair(const std::string& name = "test", std::vector<KeySource> begin_keys = {{}}, std::vector<KeySource> end_keys = {{}})
{
  PairSpec spec;
  spec.name = name;
  spec.binary = this_program();
  spec.begins = {{"laggard_test_begin", std::move(begin_keys), 4}};
  spec.ends = {{"laggard_test_end", std::move(end_keys), 5}};
  spec.file = "pairs.toml";
  spec.line = 1;
  return spec;
}

inline std::unique_ptr<PairProbe> open(std::vector<PairSpec> pairs, std::uint64_t limit = 1'000'000)
{
  const char* hook = std::getenv("LAGGARD_PAIRS_HOOK");
  auto reader = source::live::ElfReader::start();
  if (!reader)
    throw std::runtime_error(reader.error().message());
  auto probe = PairProbe::open({std::move(pairs), limit, hook != nullptr ? hook : ""}, std::move(*reader));
  if (!probe)
    throw std::runtime_error(probe.error().message());
  return std::move(*probe);
}

// As the ticks do it, without their pauses.
inline void look_for_programs(PairProbe& probe)
{
  probe.look_for_programs();
  probe.settle(std::chrono::seconds(20));
}

inline std::vector<model::PairSample> collect_once(PairProbe& probe)
{
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  source::RawTick raw(sizeof(laggard_tick_record));
  laggard_tick_record head{};
  head.header = {LAGGARD_RECORD_TICK, sizeof head, 1};
  std::memcpy(raw.data(), &head, sizeof head);
  const auto is_alive = [](std::uint32_t tgid, std::uint64_t) { return ::kill(static_cast<pid_t>(tgid), 0) == 0; };
  probe.collect(MonoTime{std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)}, 1, is_alive, raw);
  auto tick = source::decode(raw);
  if (!tick)
    throw std::runtime_error(tick.error().message());
  return tick->pairs;
}

// The second look has the names that the first one asked for.
inline std::vector<model::PairSample> collect(PairProbe& probe)
{
  collect_once(probe);
  probe.settle(std::chrono::seconds(20));
  return collect_once(probe);
}

inline model::PairSample collect_of(PairProbe& probe, std::uint32_t pid)
{
  for (const model::PairSample& sample : collect(probe))
    if (sample.process.tgid == pid)
      return sample;
  return {};
}

inline std::uint64_t sum(const std::array<std::uint32_t, model::kPairAges>& ages)
{
  return std::accumulate(ages.begin(), ages.end(), std::uint64_t{0});
}

// This program under another name.
class Copy {
 public:
  Copy() : path_((fs::temp_directory_path() / ("laggard-pairs-copy-" + std::to_string(::getpid()))).string()) {}
  ~Copy() { fs::remove(path_); }
  void place() const
  {
    fs::copy_file(this_program(), path_ + ".new", fs::copy_options::overwrite_existing);
    fs::rename(path_ + ".new", path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A copy of this program that works when it is told to: see pairs_support.cpp.
class Running {
 public:
  explicit Running(const std::string& program)
  {
    int ready[2], go[2];
    if (::pipe(ready) != 0 || ::pipe(go) != 0)
      throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(go[0], STDIN_FILENO);
      ::dup2(ready[1], STDOUT_FILENO);
      ::setenv("LAGGARD_PAIRS_COPY", "1", 1);
      ::execl(program.c_str(), program.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ready[1]);
    ::close(go[0]);
    go_.reset(go[1]);
    ready_.reset(ready[0]);
    wait_for('@');
  }
  ~Running()
  {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  void begin_three() { tell('\n', '#'); }
  void exec() { tell('x', '@'); }
  // 300 more, one each millisecond, from now on; and waits for the end of that.
  void begin_at_once() { write('t'); }
  void wait() { wait_for('#'); }
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  void write(char what)
  {
    if (::write(go_.get(), &what, 1) != 1)
      throw std::runtime_error("the copy has left");
  }
  void tell(char what, char answer)
  {
    write(what);
    wait_for(answer);
  }
  void wait_for(char wanted)
  {
    for (char byte = 0; byte != wanted;)
      if (::read(ready_.get(), &byte, 1) != 1)
        throw std::runtime_error("the copy has left");
  }
  pid_t pid_ = -1;
  Fd go_, ready_;
};

}  // namespace laggard::test
