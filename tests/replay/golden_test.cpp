// SPDX-License-Identifier: MIT
// Recordings of real incidents and the findings in them: X.laggard beside X.golden.json, which is
//   {"about": "...", "options": ["--hold", "3s"], "findings": [{"kind": ..., "process": ..., "count": ..., "severity": ...,
//    "resolution": ...}]}
// with one entry per finding, its largest count and its worst severity; never addresses, pids or text.
//
// A new one: record it, write a golden with its options and an empty list, run with LAGGARD_UPDATE_GOLDEN=1, and read
// what that wrote as if somebody else had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "base/fd.h"
#include "cli/session.h"
#include "replay/recorded.h"
#include "source/recording.h"

namespace laggard::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json golden_of(const fs::path& recording)
{
  std::ifstream file{fs::path(recording).replace_extension(".golden.json")};
  return Json::parse(file, nullptr, false);
}

class Collector final : public output::Sink {
 public:
  explicit Collector(std::vector<detect::Finding>& findings) : findings_(findings) {}
  bool started(const output::Observer&, WallTime) override { return true; }
  bool finding(const detect::Finding& finding) override
  {
    findings_.push_back(finding);
    return true;
  }
  bool socket(const output::SocketLine&) override { return true; }
  bool explanation(const output::Explanation&) override { return true; }
  bool degraded(const output::Degraded&) override { return true; }
  bool stopped(const output::Summary&) override { return true; }

 private:
  std::vector<detect::Finding>& findings_;
};

using Keep = std::function<bool()>;  // asked once per tick
const Keep kKeepAll = [] { return true; };

// As `laggard replay` does it, with the options of the golden and any sink.
void replay(const fs::path& recording, std::unique_ptr<output::Sink> sink, const Keep& keep)
{
  std::vector<std::string> arguments = {"laggard", "replay", recording.string()};
  const Json golden = golden_of(recording);
  if (golden.is_object() && golden.contains("options"))
    for (const Json& option : golden["options"])
      arguments.push_back(option.get<std::string>());
  std::vector<const char*> argv;
  for (const std::string& argument : arguments)
    argv.push_back(argument.c_str());
  const cli::Parsed parsed = cli::parse(static_cast<int>(argv.size()), argv.data());
  ASSERT_TRUE(parsed.options) << parsed.text;

  auto reader = source::RecordingReader::open(recording.string());
  ASSERT_TRUE(reader) << reader.error().message();
  cli::Session session{*parsed.options, (*reader)->header().observer, std::move(sink)};
  for (;;) {
    auto raw = (*reader)->next();
    ASSERT_TRUE(raw) << raw.error().message();
    if (!*raw)
      break;
    if (keep())
      session.tick(**raw);
  }
  EXPECT_FALSE((*reader)->truncated());
  EXPECT_EQ(session.error(), "");
  session.stop("end of recording");
}

std::vector<detect::Finding> findings_of(const fs::path& recording, const Keep& keep = kKeepAll)
{
  std::vector<detect::Finding> findings;
  replay(recording, std::make_unique<Collector>(findings), keep);
  return findings;
}

std::string json_of(const fs::path& recording)
{
  const Fd fd{::memfd_create("output", 0)};
  replay(recording, output::make_sink({.format = output::Format::Json, .fd = fd.get()}, {}), kKeepAll);
  std::string text(static_cast<std::size_t>(::lseek(fd.get(), 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

Json summary_of(const std::vector<detect::Finding>& lines)
{
  struct Worst {
    detect::Finding last;
    std::uint64_t count = 0;
    detect::Severity severity = detect::Severity::Warning;
  };
  std::map<std::uint64_t, Worst> by_id;
  for (const detect::Finding& line : lines) {
    Worst& worst = by_id[line.id];
    worst.last = line;
    worst.count = std::max(worst.count, line.count);
    worst.severity = std::max(worst.severity, line.severity);
  }
  std::vector<Json> entries;
  for (const auto& [id, worst] : by_id)
    entries.push_back({{"kind", detect::to_string(worst.last.kind)},
                       {"process", worst.last.process.comm},
                       {"count", worst.count},
                       {"severity", detect::to_string(worst.severity)},
                       {"resolution", worst.last.resolution ? Json(detect::to_string(*worst.last.resolution)) : Json()}});
  std::ranges::sort(entries, {}, [](const Json& entry) { return entry.dump(); });
  return entries;
}

class Replay : public testing::TestWithParam<fs::path> {};

TEST_P(Replay, GivesTheGoldenFindings)
{
  Json golden = golden_of(GetParam());
  ASSERT_TRUE(golden.is_object() && golden.contains("findings")) << GetParam() << " has no golden beside it";
  const Json actual = summary_of(findings_of(GetParam()));
  if (std::getenv("LAGGARD_UPDATE_GOLDEN") != nullptr) {
    golden["findings"] = actual;
    std::ofstream(fs::path(GetParam()).replace_extension(".golden.json")) << golden.dump(2) << '\n';
  }
  EXPECT_EQ(actual.dump(2), golden["findings"].dump(2));
}

TEST_P(Replay, TwiceGivesTheSameBytes)
{
  const std::string once = json_of(GetParam());
  EXPECT_FALSE(once.empty());
  EXPECT_EQ(once, json_of(GetParam()));
}

TEST_P(Replay, WithTicksMissingEveryFindingStillOpensOnceAndEndsOnce)
{
  for (unsigned seed = 0; seed < 50; seed++) {
    std::mt19937 random{seed};
    const unsigned percent = 5 + seed * 2 % 90;
    std::map<std::uint64_t, std::uint32_t> sequences;
    std::map<std::uint64_t, bool> ended;
    for (const detect::Finding& line : findings_of(GetParam(), [&] { return random() % 100 >= percent; })) {
      ASSERT_EQ(line.sequence, ++sequences[line.id]) << "seed " << seed;
      ASSERT_EQ(line.phase == detect::Phase::Opened, line.sequence == 1) << "seed " << seed;
      ASSERT_FALSE(ended[line.id]) << "seed " << seed;
      ended[line.id] = line.phase == detect::Phase::Resolved;
    }
    for (const auto& [id, has_ended] : ended)
      EXPECT_TRUE(has_ended) << "seed " << seed;
  }
}

std::string name_of(const testing::TestParamInfo<fs::path>& info)
{
  std::string name = info.param.stem().string();
  std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Recordings, Replay, testing::ValuesIn(recordings()), name_of);

}  // namespace
}  // namespace laggard::test
