// SPDX-License-Identifier: MIT
// What laggard found, and how well it sees, in numbers: counted on the way, told as text that Prometheus understands.
// Knows no socket, no file and no thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "detect/finding.h"
#include "model/model.h"
#include "model/observer.h"
#include "output/sink.h"

namespace laggard::output {

// Labels come from closed sets, but for the Kubernetes namespace: this many are told apart, the rest is "other".
inline constexpr std::size_t kMaxNamespaces = 100;

// This process, as the kernel accounts for it.
struct SelfUsage {
  double start_time_seconds = 0;  // since 1970
  double cpu_seconds = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t open_fds = 0;
};

class Metrics {
 public:
  explicit Metrics(model::Observer observer);

  void finding(const detect::Finding& finding);
  void degraded() { degraded_++; }
  void records(const model::Tick& tick);
  // After the model was told of them.
  void tick(const model::Model& model);
  // What the output has not taken: lines that wait for it, and the total of those that there was no room for.
  void output(std::size_t waiting, const Dropped& dropped)
  {
    waiting_ = waiting;
    dropped_ = dropped;
  }
  // Totals of laggard's BPF programs.
  void programs(const std::vector<model::ProgramRuns>& programs) { programs_ = programs; }

  // For node_exporter, which has process_* of its own and would refuse the whole page, ours are laggard_process_*.
  enum class Reader : std::uint8_t { Prometheus, NodeExporter };
  std::string text(const SelfUsage& self, Reader reader = Reader::Prometheus) const;

 private:
  struct Series {
    detect::Kind kind{};
    detect::Severity severity{};      // of resolved ones: not told apart
    detect::Resolution resolution{};  // of resolved ones only
    std::string k8s_namespace;        // empty: none
    auto operator<=>(const Series&) const = default;
  };
  // Looks at processor time: a look at everything costs from half a millisecond to a second.
  static constexpr std::array kSweepBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0};

  std::string bounded_namespace(const std::string& name);
  void none_opened_yet(const std::string& k8s_namespace);

  model::Observer observer_;
  std::map<Series, std::uint64_t> open_, opened_, resolved_;
  std::map<std::uint64_t, Series> is_open_;  // by id of the finding
  std::set<std::string> namespaces_;
  std::uint64_t degraded_ = 0;
  std::size_t waiting_ = 0;
  Dropped dropped_;

  std::uint64_t ticks_ = 0;
  WallTime last_tick_;
  std::map<model::Transport, std::uint64_t> tracked_;
  Duration unobserved_{};
  std::uint64_t evicted_ = 0;
  std::uint64_t swept_sockets_ = 0;
  Duration sweep_period_{};
  std::array<std::uint64_t, kSweepBounds.size() + 1> sweeps_{};  // the last: longer than all bounds
  double sweep_seconds_ = 0;
  std::map<std::string_view, std::uint64_t> records_;
  model::Losses lost_;
  std::vector<model::ProgramRuns> programs_;
};

}  // namespace laggard::output
