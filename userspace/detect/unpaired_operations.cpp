// SPDX-License-Identifier: MIT
// unpaired-operations: operations that a program begins and never completes keep accumulating (DESIGN 5.5).
//
// With A = --unpaired, or twice as long as the slowest operation that ended took, rounded up to half an octave:
// Needs: --unpaired-count operations that are outstanding for A or longer, of them two or more for A to 2 A, for 2 A to 4 A, and
// for longer: a burst, or a pool that was filled once, does not go on. Counted is an operation that a later one has overtaken:
// one of its connection, where the first part of the key tells. Those that nothing overtook wait, as for a peer that pauses. If
// none has ended for 4 A they count with a second sign: the memory of the process grows, or it has read from its sockets meanwhile, a
// little for each of them: answers came. (Where a key knows the connection, only if any has ended yet: some clients end them in
// another way.)
// No finding where as many begins and ends could not be read, and none where an end was not reached once: a copy of it that was
// inlined may be. Once open, half of --unpaired-count keeps it open.
// A pair may say that each one counts: then one that is outstanding for --stall is enough. Where a socket of the process is not
// read meanwhile that is the finding, and not this: the program is held up.
#include "detect/unpaired_operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/units.h"
#include "detect/memory.h"

namespace laggard::detect {
namespace {

constexpr std::uint64_t kPerSpan = 2;
constexpr std::size_t kShownFrames = 4;
constexpr std::uint64_t kAnswerBytes = 16;  // less is no answer to an operation: a heartbeat on some other connection

struct Look {
  Duration age{};  // A
  std::uint64_t stuck = 0;
  bool goes_on = false;
};

using Octaves = std::array<std::uint64_t, 3>;  // A to 2 A, 2 A to 4 A, longer

Octaves by_octave(const std::array<std::uint32_t, model::kPairAges>& ages, std::size_t first)
{
  Octaves octaves{};
  for (std::size_t b = first; b < ages.size(); b++)
    octaves[std::min((b - first) / 2, octaves.size() - 1)] += ages[b];
  return octaves;
}

// Two buckets are an octave: with A the bound of one, the octaves begin where buckets do.
std::size_t bucket_from(Duration age)
{
  const double needed = seconds(age) / seconds(model::kPairAge);
  return static_cast<std::size_t>(std::clamp(std::ceil(2 * std::log2(std::max(needed, 1.0))), 1.0, 1.0 * model::kPairAges));
}

Look look_at(const Context& context, const model::Pair& pair)
{
  const model::PairSample& sample = pair.latest;
  const Thresholds& limits = context.thresholds;
  const std::size_t first = bucket_from(sample.each ? limits.stall : std::max(limits.unpaired, 2 * sample.slowest));
  Look look;
  look.age = Duration{static_cast<std::int64_t>(1e9 * seconds(model::kPairAge) * std::exp2(static_cast<double>(first) / 2))};
  const Octaves overtaken = by_octave(sample.overtaken, first), waiting = by_octave(sample.waiting, first);
  Octaves all = overtaken;
  for (std::size_t i = 0; i < all.size(); i++)
    all[i] += waiting[i];
  const bool nothing_ends = !known(sample.last_match) || sample.time - sample.last_match >= 4 * look.age;
  const bool answers_came = pair.read_since_match >= kAnswerBytes * sample.outstanding && (!sample.by_connection || known(sample.last_match));
  const bool second_sign = nothing_ends && (answers_came || is_filling(context, sample.process));
  const Octaves& counted = sample.each || second_sign ? all : overtaken;
  look.stuck = std::accumulate(counted.begin(), counted.end(), std::uint64_t{0});
  look.goes_on = std::ranges::all_of(counted, [](std::uint64_t count) { return count >= kPerSpan; });
  return look;
}

// What waits in a socket has waited for as long.
bool has_unread_socket(const Context& context, model::ProcessId process)
{
  return std::ranges::any_of(context.model.connections(), [&](const auto& entry) {
    const model::Connection& connection = entry.second;
    return connection.process() == process && connection.latest().unread_bytes > 0 &&
           connection.receive().lag(context.now()) >= context.thresholds.stall / 2;
  });
}

bool is_stuck(const Context& context, const model::PairSample& sample, const Look& look, bool open)
{
  if (sample.each)
    return look.stuck > 0 && !has_unread_socket(context, sample.process);
  const std::uint64_t count = context.thresholds.unpaired_count;
  return open ? look.stuck * 2 >= count : look.stuck >= count && look.goes_on;
}

// Names come from a program's file: nothing of them may reach a terminal as a command.
std::string printable(std::string text)
{
  std::ranges::replace_if(text, [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

std::vector<std::string> frames_of(const model::PairSample& sample)
{
  std::vector<std::string> frames;
  for (std::size_t at = 0; at < sample.stack.size();) {
    const std::size_t end = std::min(sample.stack.find('\n', at), sample.stack.size());
    frames.push_back(printable(sample.stack.substr(at, end - at)));
    at = end + 1;
  }
  return frames;
}

}  // namespace

void judge_unpaired_operations(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  for (const auto& [key, pair] : context.model.pairs()) {
    const model::PairSample& sample = pair.latest;
    if (sample.outstanding == 0 || context.model.find(sample.process) == nullptr)
      continue;
    Subject subject = process_subject(Kind::UnpairedOperations, sample.process);
    subject.pair = sample.name;
    const Look look = look_at(context, pair);
    const bool open = context.is_open(Kind::UnpairedOperations, subject_member(subject));
    if (!is_stuck(context, sample, look, open) || (!open && (sample.unreadable >= look.stuck || !sample.end_seen)))
      continue;
    verdicts.push_back({
        .subject = subject,
        .since = sample.oldest_begin,
        .ripe = context.now(),
        .weight = static_cast<double>(look.stuck),
        .severity = !sample.each && look.stuck >= limits.unpaired_count * 10 ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_unpaired_operations(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const Subject& subject = members.front().subject;
  const model::Pair& pair = context.model.pairs().at({subject.process, subject.pair});
  const model::PairSample& sample = pair.latest;
  const Look look = look_at(context, pair);
  const Duration oldest = sample.time - sample.oldest_begin;
  const std::vector<std::string> frames = frames_of(sample);

  const std::string what = sample.what.empty() ? fmt::format("operations of '{}'", printable(subject.pair)) : printable(sample.what);
  finding.message = sample.each ? fmt::format("{} {}, the oldest for {}", look.stuck, what, format_duration(oldest))
                                : fmt::format("{} {} were begun and never completed, the oldest {} ago", look.stuck, what, format_duration(oldest));
  finding.details.push_back(fmt::format("{} of '{}' stuck, the oldest for {}", look.stuck, printable(subject.pair), format_duration(oldest)));
  const std::string slowest =
      sample.slowest > Duration{} ? fmt::format("; those that complete took {} at most", format_duration(sample.slowest)) : "";
  const std::string refused = sample.refused > 0 ? fmt::format(", {} refused", sample.refused) : "";
  finding.details.push_back(fmt::format("{} begun, {} completed{}, {} outstanding{}", sample.begun, sample.ended, refused, sample.outstanding, slowest));
  if (sample.unmatched > 0)
    finding.details.push_back(fmt::format("{} completed that were not seen to begin", sample.unmatched));
  for (std::size_t i = 0; i < std::min(frames.size(), kShownFrames); i++) {
    const std::string frame = frames[i].size() > 72 ? frames[i].substr(0, 69) + "..." : frames[i];
    finding.details.push_back(i == 0 ? fmt::format("{} of them begin in {}", sample.stack_count, frame) : fmt::format("  called by {}", frame));
  }
  if (sample.lost > 0)
    finding.quality.missing.push_back(fmt::format("{} operations that there was no room to remember", sample.lost));
  finding.advice = !sample.advice.empty() ? printable(sample.advice) : "some path through the program never completes what it began: look for a return, an error or an event without it";

  auto& evidence = finding.evidence;
  evidence.push_back({"pair", printable(subject.pair)});
  evidence.push_back({"begun", sample.begun});
  evidence.push_back({"ended", sample.ended});
  evidence.push_back({"outstanding", sample.outstanding});
  evidence.push_back({"stuck", look.stuck});
  evidence.push_back({"unmatched", sample.unmatched});
  evidence.push_back({"refused", sample.refused});
  evidence.push_back({"oldest_seconds", seconds(oldest)});
  evidence.push_back({"slowest_seconds", seconds(sample.slowest)});
  if (!frames.empty()) {
    evidence.push_back({"stack", fmt::format("{}", fmt::join(frames, " < "))});
    evidence.push_back({"stack_operations", std::uint64_t{sample.stack_count}});
  }
  finding.thresholds.push_back({"unpaired_seconds", seconds(look.age)});
  if (!sample.each)
    finding.thresholds.push_back({"unpaired_count", context.thresholds.unpaired_count});
}

std::string half_seen(const Thresholds& limits, const model::PairSample& sample)
{
  const auto say = [&](std::uint64_t count, const char* what, const char* never, const char* role) {
    return fmt::format("pair '{}' in process {}: {} were {}, and no {} was reached once, so nothing can be said of it. Perhaps a copy that is "
                       "inlined {} them: name another function",
                       printable(sample.name), sample.process.tgid, count, what, never, role);
  };
  if (!sample.end_seen && sample.outstanding >= limits.unpaired_count && sample.time - sample.oldest_begin >= limits.unpaired)
    return say(sample.outstanding, "begun", "end", "ends");
  // What was under way before we looked ends, too.
  if (!sample.begin_seen && sample.unmatched >= limits.unpaired_count * 10)
    return say(sample.unmatched, "completed", "begin", "begins");
  return {};
}

}  // namespace laggard::detect
