// SPDX-License-Identifier: MIT
// From verdicts to findings: grouping, opening, hysteresis, updates, resolution (DESIGN 5.4). One incident, one finding.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "detect/groups.h"
#include "detect/incidents.h"
#include "detect/rule.h"

namespace laggard::detect {

// Which subjects may become findings. Empty sets and zeros let everything pass.
struct Filter {
  std::set<Kind> kinds;
  std::set<std::uint32_t> tgids;  // any of them holds the socket, or the finding is about it
  std::set<std::string> comms;
  std::set<std::uint16_t> ports;       // local or remote
  std::set<std::uint32_t> netns;
  std::set<std::uint64_t> cgroup_ids;  // v2
  Severity min_severity = Severity::Warning;
};

struct DetectorOptions {
  Thresholds thresholds;
  Filter filter;
  std::string hooks;                 // for Finding::quality
  std::vector<std::string> missing;
};

struct Counts {
  std::uint64_t opened = 0;
  std::uint64_t open = 0;
  bool any_warning = false;   // opened since start, whether or not still open
  bool any_critical = false;
};

struct Suspect {
  model::ProcessId process;
  MonoTime since;                  // it has been one
  // What its memory has to gain while it is attributed, which may go on for `patience` until it does.
  std::uint64_t needed_bytes = 0;
  Duration patience{};
};

class Detector {
 public:
  explicit Detector(DetectorOptions options) : options_(std::move(options)) {}

  // What changed with the model's latest tick. Call once per tick.
  std::vector<Finding> evaluate(const model::Model& model);
  // Resolves everything that is open: the observer stops.
  std::vector<Finding> finish(const model::Model& model);

  // Some member ripens within two ticks and its holders have not been looked at lately: ask the source to walk them
  // with the next tick. A finding is not opened before that, unless no walk comes.
  // Is this socket part of an open finding?
  bool names(std::uint64_t cookie) const;

  bool wants_holders() const { return wants_holders_; }
  // Processes whose memory grows and of which nobody knows yet with what, the longest waiting first: ask the source to
  // attribute as many as it can.
  const std::vector<Suspect>& suspects() const { return suspects_; }
  const Counts& counts() const { return counts_; }

 private:
  struct Open {
    std::uint64_t id = 0;
    std::uint32_t sequence = 0;
    Severity severity = Severity::Warning;
    MonoTime since;
    bool since_is_lower_bound = false;
    std::vector<std::uint64_t> members;         // sorted
    std::vector<model::ProcessId> processes;    // sorted
    MonoTime opened;
    MonoTime last_true;
    MonoTime last_said;
    Duration next_pause{};
    std::uint64_t said_count = 0;
    double said_weight = 0;
    std::uint64_t lost_at_start = 0;
    Links links;   // as last said
    Finding last;  // for its resolution, as of
    MonoTime pictured;
  };

  Context context_of(const model::Model& model) const;
  std::vector<Verdict> collect(const model::Model& model);
  // The verdicts of this tick that are findings.
  Groups group(const model::Model& model);
  // Beside those since it was last said.
  static void remember_members(Open& open, const std::vector<Verdict>& members);
  bool has_ended(const model::Model& model, const Subject& subject, Open& open) const;
  // The open finding that another one goes on in, by its subject.
  const Open* regrouped_in(const model::Model& model, const Subject& subject, const Groups& groups) const;
  void list_suspects(MonoTime now, std::span<const Verdict> verdicts);
  bool passes(const model::Model& model, const Verdict& verdict) const;
  // Its subject is one of Filter::tgids, or one of them holds its socket.
  bool concerns_wanted_process(const model::Model& model, const Verdict& verdict) const;
  bool holders_verified(const model::Model& model, const Verdict& verdict) const;
  Finding picture(const model::Model& model, const Open& open, const std::vector<Verdict>& members) const;
  static void describe_whole(const model::Model& model, const std::vector<Verdict>& members, Finding& finding);
  static void describe_change(const Open& open, MonoTime now, Finding& finding);
  Finding make(const model::Model& model, Open& open, const std::vector<Verdict>& members, Phase phase);
  Finding resolve(const model::Model& model, Open& open, Resolution resolution);
  // Says in each finding of this tick what it belongs to, and again in older ones where that has changed.
  void link(const model::Model& model, std::vector<Finding>& findings);
  Resolution reason_of(const model::Model& model, const Subject& subject, const Open& open) const;
  bool worth_saying(const Open& open, const std::vector<Verdict>& members, MonoTime now) const;

  DetectorOptions options_;
  std::map<Subject, Open> open_;
  std::map<Subject, MonoTime> unverified_since_;
  std::map<Kind, std::vector<std::uint64_t>> open_members_;  // sorted
  bool wants_holders_ = false;
  std::size_t verdicts_before_ = 0;
  std::vector<Suspect> suspects_;
  Counts counts_;
};

}  // namespace laggard::detect
