// SPDX-License-Identifier: MIT
// unpaired-operations: operations that a program begins and never completes keep accumulating (DESIGN 5.5).
//
// With A = --unpaired, or twice as long as the slowest operation that ended took, rounded up to half an octave:
// Needs: --unpaired-count operations that are outstanding for A or longer, of them two or more for A to 2 A, for 2 A to 4 A, and
// for longer: a burst, or a pool that was filled once, does not go on. Counted is an operation that a later one has overtaken:
// where a peer pauses nothing ends, and nothing is overtaken. Where none ever ended, or none has for 4 A, all count. No
// finding where as many begins and ends could not be read. Once open, half of --unpaired-count keeps it open.
#include "detect/unpaired_operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace laggard::detect {
namespace {

constexpr std::uint64_t kPerSpan = 2;
constexpr std::size_t kShownFrames = 4;

struct Look {
  Duration age{};  // A
  std::uint64_t stuck = 0;
  std::uint64_t by_span[3] = {};  // A to 2 A, 2 A to 4 A, longer
  bool goes_on() const { return std::ranges::all_of(by_span, [](std::uint64_t count) { return count >= kPerSpan; }); }
};

Look look_at(const Thresholds& limits, const model::PairSample& sample)
{
  // Two buckets are an octave: with A the bound of one, the spans begin where buckets do.
  const double needed = seconds(std::max(limits.unpaired, 2 * sample.slowest)) / seconds(model::kPairAge);
  const auto first = static_cast<std::size_t>(std::clamp(std::ceil(2 * std::log2(std::max(needed, 1.0))), 1.0, 1.0 * model::kPairAges));
  Look look;
  look.age = Duration{static_cast<std::int64_t>(1e9 * seconds(model::kPairAge) * std::exp2(static_cast<double>(first) / 2))};
  const bool nothing_ends = !known(sample.last_end) || sample.time - sample.last_end >= 4 * look.age;
  for (std::size_t b = first; b < model::kPairAges; b++) {
    const std::uint64_t count = sample.overtaken[b] + (nothing_ends ? sample.waiting[b] : 0U);
    look.stuck += count;
    look.by_span[std::min<std::size_t>((b - first) / 2, 2)] += count;
  }
  return look;
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
  for (const auto& [key, sample] : context.model.pairs()) {
    if (sample.outstanding == 0 || context.model.find(sample.process) == nullptr)
      continue;
    Subject subject = process_subject(Kind::UnpairedOperations, sample.process);
    subject.pair = sample.name;
    const Look look = look_at(limits, sample);
    if (context.is_open(Kind::UnpairedOperations, subject_member(subject)) ? look.stuck * 2 < limits.unpaired_count
                                                                          : look.stuck < limits.unpaired_count || !look.goes_on() ||
                                                                                sample.unreadable >= look.stuck)
      continue;
    verdicts.push_back({
        .subject = subject,
        .since = sample.oldest_begin,
        .ripe = context.now(),
        .weight = static_cast<double>(look.stuck),
        .severity = look.stuck >= limits.unpaired_count * 10 ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_unpaired_operations(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const Subject& subject = members.front().subject;
  const model::PairSample& sample = context.model.pairs().at({subject.process, subject.pair});
  const Look look = look_at(context.thresholds, sample);
  const Duration oldest = sample.time - sample.oldest_begin;
  const std::vector<std::string> frames = frames_of(sample);

  finding.message = fmt::format("{} operations of '{}' were begun and never completed, the oldest {} ago", look.stuck,
                                printable(subject.pair), format_duration(oldest));
  finding.details.push_back(fmt::format("{} of '{}' stuck, the oldest for {}", look.stuck, printable(subject.pair), format_duration(oldest)));
  const std::string slowest =
      sample.slowest > Duration{} ? fmt::format("; those that complete took {} at most", format_duration(sample.slowest)) : "";
  finding.details.push_back(fmt::format("{} begun, {} completed, {} outstanding{}", sample.begun, sample.ended, sample.outstanding, slowest));
  for (std::size_t i = 0; i < std::min(frames.size(), kShownFrames); i++) {
    const std::string frame = frames[i].size() > 72 ? frames[i].substr(0, 69) + "..." : frames[i];
    finding.details.push_back(i == 0 ? fmt::format("{} of them begin in {}", sample.stack_count, frame) : fmt::format("  called by {}", frame));
  }
  if (sample.lost > 0)
    finding.quality.missing.push_back(fmt::format("{} operations that there was no room to remember", sample.lost));
  finding.advice = "some path through the program never completes what it began: look for a return, an error or an event without it";

  auto& evidence = finding.evidence;
  evidence.push_back({"pair", printable(subject.pair)});
  evidence.push_back({"begun", sample.begun});
  evidence.push_back({"ended", sample.ended});
  evidence.push_back({"outstanding", sample.outstanding});
  evidence.push_back({"stuck", look.stuck});
  evidence.push_back({"unmatched", sample.unmatched});
  evidence.push_back({"oldest_seconds", seconds(oldest)});
  evidence.push_back({"slowest_seconds", seconds(sample.slowest)});
  if (!frames.empty()) {
    evidence.push_back({"stack", fmt::format("{}", fmt::join(frames, " < "))});
    evidence.push_back({"stack_operations", std::uint64_t{sample.stack_count}});
  }
  finding.thresholds.push_back({"unpaired_seconds", seconds(look.age)});
  finding.thresholds.push_back({"unpaired_count", context.thresholds.unpaired_count});
}

}  // namespace laggard::detect
