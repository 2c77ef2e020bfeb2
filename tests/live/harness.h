// SPDX-License-Identifier: MIT
// Real children for live tests: the workload program, and laggard itself. No sleeps: every wait has a condition and one
// generous deadline.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "model/tick.h"
#include "source/live/live_source.h"
#include "support/eventually.h"
#include "support/temporary_root.h"

namespace laggard::test {

using Json = nlohmann::json;
using Facts = std::map<std::string, std::string>;

double now_seconds();  // of the steady clock

// Where the programs are: LAGGARD_BIN and WORKLOAD_BIN, else the build tree.
std::string laggard_program();
std::string workload_program();

// For Child, before exec: an ordinary uid with exactly CAP_BPF and CAP_PERFMON, as ambient capabilities. Needs root.
void become_ordinary();

// A child with its standard streams as pipes. Killed and reaped at the end of its life.
class Child {
 public:
  explicit Child(const std::vector<std::string>& command, const std::function<void()>& before_exec = {});
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  std::optional<std::string> read_line(double timeout_seconds);  // of standard output
  std::optional<std::string> read_error_line(double timeout_seconds);
  void write_line(const std::string& line);
  void close_input() { input_.reset(); }
  void close_output() { output_.reset(); }
  void signal(int number) const;
  int wait();  // exit code, or 128 + signal
  std::string error_text();  // all of standard error that was not read yet, after wait()

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  Fd input_;
  Fd output_;
  Fd error_;
  std::string buffer_;
  std::string error_buffer_;
};

// tests/workload: a program of known behaviour.
class Workload {
 public:
  // Returns once the scenario stands.
  explicit Workload(std::vector<std::string> arguments, const std::string& program = workload_program());
  ~Workload();
  std::uint32_t pid() const { return number<std::uint32_t>("pid"); }
  std::uint64_t cookie() const { return number<std::uint64_t>("cookie"); }
  const std::string& text(const std::string& key) const { return facts_.at(key); }
  template <class T>
  T number(const std::string& key) const
  {
    return static_cast<T>(std::stoull(facts_.at(key)));
  }
  Facts command(const std::string& line);  // throws on "error ..."
  const Facts& facts() const { return facts_; }
  pid_t child_pid() const { return child_.pid(); }

 private:
  Child child_;
  Facts facts_;
};

// A running laggard whose NDJSON is collected; every line is checked against the schema, and gets "test.arrived".
class Observer {
 public:
  explicit Observer(std::vector<std::string> arguments, const std::function<void()>& before_exec = {});
  // Waits until it says that it observes.
  void wait_started();
  // The first line for which `wanted` holds, already seen or yet to come; nothing after the deadline.
  std::optional<Json> wait_for(const std::function<bool(const Json&)>& wanted, double seconds = kDeadlineSeconds);
  std::optional<Json> wait_for_finding(const std::string& kind, std::uint32_t pid, double seconds = kDeadlineSeconds);
  void observe_for(double seconds);  // collects lines
  int stop();                        // SIGTERM; the exit code
  const std::vector<Json>& lines() const { return lines_; }
  std::vector<Json> findings(std::uint32_t pid) const;
  Child& child() { return child_; }

 private:
  bool take(double seconds);
  Child child_;
  std::vector<Json> lines_;
};

// The kernel side alone, in this process: exact numbers.
class Kernel {
 public:
  // `sweep_hook`: forced; empty: the best one, or what LAGGARD_SWEEP_HOOK says.
  explicit Kernel(const std::string& sweep_hook = {});
  // Looks now; the socket's newest sample, if there is one.
  std::optional<model::FullSample> look(std::uint64_t cookie);
  const model::Tick& tick();
  const model::Tick& session_tick();  // as a session does it, when a sweep is due: only what is interesting
  source::live::LiveSource& source() { return *source_; }

 private:
  const model::Tick& take(bool everything);
  std::unique_ptr<source::live::LiveSource> source_;
  model::Tick tick_;
  std::map<std::uint64_t, model::FullSample> shown_;
};

// ---- files that laggard writes ----

inline constexpr uid_t kNobody = 65534;  // who it becomes

std::string content(const std::string& path);
std::vector<Json> lines_of(const std::string& text);
bool has_event(const std::string& path, const std::string& name);  // laggard.agent.NAME
// Of a page of metrics; the sum of what has this name, -1 where nothing has.
double metric(const std::string& page, const std::string& name);

// A directory that nobody may enter; the one below it is nobody's.
struct Directory : TemporaryRoot {
  Directory();
  std::string at(const std::string& name) const { return path() + "/" + name; }
};

bool can_observe();  // else the test says SKIP and why

}  // namespace laggard::test

#define LAGGARD_NEEDS_BPF()                                        \
  if (!laggard::test::can_observe())                               \
    GTEST_SKIP() << "no right to load BPF programs on this machine"
