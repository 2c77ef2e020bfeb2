// SPDX-License-Identifier: MIT
// What a rule is. A rule looks at the model and says who fits, since when, and from when on it is worth a finding; it
// does not open, group, remember or print anything. Adding a finding: one file pair, one line in rules.cpp, one line in
// LAGGARD_FINDING_KINDS, a row in the schema, tests.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "detect/finding.h"
#include "detect/thresholds.h"
#include "model/model.h"

namespace laggard::detect {

// What one person would fix in one place.
struct Subject {
  Kind kind = Kind::SlowReader;
  model::ProcessId process;
  std::uint32_t netns = 0;    // 0 for process subjects
  model::Transport transport = model::Transport::Tcp;
  bool server_side = false;   // which end `endpoint` is: the local one of accepted connections, else the remote one
  model::Endpoint endpoint;   // empty for process subjects
  std::string pair;           // of unpaired-operations, else empty
  bool is_whole = false;      // all of the kind of `process`, or of the processes that run `program` (groups.h); the rest is empty
  std::uint64_t program = 0;
  auto operator<=>(const Subject&) const = default;
};

// One member of a subject that fits the condition now.
struct Verdict {
  Subject subject;
  std::uint64_t cookie = 0;         // 0: the member is the process itself
  MonoTime since;                   // when the condition began
  bool since_is_lower_bound = false;
  MonoTime ripe;                    // from then on it is a finding
  double weight = 0;                // orders the members of a group: the largest is the worst
  Severity severity = Severity::Warning;
  bool to_be_attributed = false;    // a suspect only: fits, but for an attribution of its growth, which it asks for
  std::uint64_t needed_bytes = 0;   // of a suspect: see Suspect
  Duration patience{};
};

// How a member is remembered: a socket by its cookie, a process by its pid in a range that no cookie reaches.
inline std::uint64_t process_member(std::uint32_t tgid) { return 1ULL << 63 | tgid; }
// Where the member is the process itself: a process has several pairs.
inline std::uint64_t subject_member(const Subject& subject)
{
  const std::size_t hash = subject.pair.empty() ? 0 : model::hash_bytes(subject.pair.data(), subject.pair.size());
  return process_member(subject.process.tgid) | (hash << 33 >> 1);
}

struct Context {
  const model::Model& model;
  const Thresholds& thresholds;
  // Hysteresis: is this member already part of an open finding of this kind? Then half of the threshold keeps it there.
  std::function<bool(Kind, std::uint64_t member)> is_open;
  std::function<bool(Kind)> any_open;  // finding of this kind
  std::span<const model::Connection* const> connections = {};  // those of Rule::concerns
  MonoTime now() const { return model.now(); }
};

struct Rule {
  Kind kind;
  // The connections to judge; null: it judges processes or pools. One pass asks this for all rules: where there are 120 000
  // connections, reaching one costs more than judging it.
  bool (*concerns)(const model::Connection&);
  void (*judge)(const Context&, std::vector<Verdict>& verdicts);
  // Fills message, details, advice, evidence, thresholds and examples from the worst member first.
  void (*describe)(const Context&, std::span<const Verdict> members, Finding& finding);
};

std::span<const Rule> rules();
const Rule& rule_of(Kind kind);
// Judged from all sockets, which are looked at as often as --max-cpu allows.
inline bool is_about_sockets(Kind kind) { return rule_of(kind).concerns != nullptr; }

// ---- what several rules share ----

// The part of a finding's id that its subject decides: the same in every run.
std::uint32_t subject_tag(const Subject& subject);

SocketRef socket_ref(const model::Model& model, const model::SocketSample& sample);
Subject process_subject(Kind kind, model::ProcessId process);
Subject connection_subject(Kind kind, const model::Model& model, const model::Connection& connection);

// How far a consumer is behind. Where the sender is on this host its own backlog counts too: a default receive buffer
// holds 115 KB, so a reader above 100 KB/s never shows a second of lag on its own side (DESIGN 5.1).
struct Lag {
  Duration here{};
  Duration at_sender{};
  Duration total() const { return here + at_sender; }
};
Lag lag_of(const model::Model& model, const model::Connection& connection);

// Since when an end has been left half-closed; a lower bound where it began before we looked.
struct Since {
  MonoTime time;
  bool is_lower_bound = false;
};
// Verdicts about all of Context::connections. `since` says when the clock of one last started.
void judge_half_closed(const Context& context, Kind kind, Duration threshold, Since (*since)(const model::Connection&),
                       std::vector<Verdict>& verdicts);
// "at least 3 min"
std::string half_closed_age(const Context& context, Since since);

// Evidence that every finding about a receive queue carries.
void describe_queue(const model::SocketSample& sample, Finding& finding);

}  // namespace laggard::detect
