// SPDX-License-Identifier: MIT
// The command line, parsed: everything a command needs and nothing it has to parse itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "detect/detector.h"
#include "detect/thresholds.h"
#include "output/metrics_endpoint.h"
#include "output/sink.h"
#include "source/pair_spec.h"

namespace laggard::cli {

// Exit codes, DESIGN section 6.
enum ExitCode : int {
  kObserved = 0,
  kFindings = 1,
  kUnhealthy = 1,  // health
  kUsage = 2,
  kCannotObserve = 3,
  kIncomplete = 4,
  kInternalError = 70,
};

enum class Command : std::uint8_t { Watch, Snapshot, Record, Replay, Explain, Doctor, Health };
enum class OutputChoice : std::uint8_t { Auto, Text, Json, Logfmt };

// Where health looks if nothing else is said.
inline constexpr const char* kDefaultHeartbeat = "/run/laggard/heartbeat";

struct Options {
  Command command = Command::Watch;
  std::string file;        // record, replay
  std::string connection;  // explain

  Duration interval = std::chrono::seconds(1);
  std::optional<Duration> duration;
  OutputChoice output = OutputChoice::Auto;
  std::string output_file;  // watch, replay: appended to; empty: standard output
  std::string color = "auto";
  std::optional<detect::Severity> fail_on;
  double max_cpu = 0.01;
  std::uint64_t max_memory = 0;  // bytes; 0: half of what the cgroup allows, at most 256 MiB
  std::uint64_t loss_limit = 1000;
  bool command_lines = false;
  std::optional<output::ListenAddress> metrics;
  std::string metrics_textfile;  // empty: none
  bool keep_privileges = false;
  std::string heartbeat;            // watch: none where empty
  std::optional<Duration> max_age;  // health
  bool everything = false;  // snapshot: idle sockets too
  bool verbose = false;     // doctor: the kernel's own words
  std::map<std::string, std::string> hooks;
  std::vector<source::PairSpec> pairs;
  std::uint64_t pairs_limit = 10'000;  // hits per second of one pair
  std::vector<std::string> pair_errors;  // of those that are left out

  detect::Thresholds thresholds;
  detect::Filter filter;
};

struct Parsed {
  std::optional<Options> options;  // absent: say `text` and leave with `exit_code`
  int exit_code = kObserved;
  std::string text;
};
Parsed parse(int argc, const char* const* argv);

// What `auto` means for this terminal or pipe.
output::SinkOptions sink_options(const Options& options);

}  // namespace laggard::cli
