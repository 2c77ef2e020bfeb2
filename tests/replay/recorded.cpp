// SPDX-License-Identifier: MIT
#include "replay/recorded.h"

#include <gtest/gtest.h>
#include <laggard/abi/records.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"

namespace laggard::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Collector final : public output::Sink {
 public:
  explicit Collector(Said& said) : said_(said) {}
  bool started(const output::Observer&, WallTime) override { return true; }
  bool finding(const detect::Finding& finding) override
  {
    said_.findings.push_back(finding);
    return true;
  }
  bool socket(const output::SocketLine&) override { return true; }
  bool explanation(const output::Explanation&) override { return true; }
  bool degraded(const output::Degraded&) override { return true; }
  bool stopped(const output::Summary& summary) override
  {
    said_.incomplete = summary.incomplete;
    return true;
  }

 private:
  Said& said_;
};

}  // namespace

std::vector<fs::path> recordings()
{
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(LAGGARD_SOURCE_DIR "/tests/replay"))
    if (entry.path().extension() == ".laggard")
      paths.push_back(entry.path());
  std::ranges::sort(paths);
  return paths;
}

Recorded load(const fs::path& path)
{
  Recorded recorded;
  recorded.name = path.stem().string();
  std::ifstream golden{fs::path(path).replace_extension(".golden.json")};
  if (const json parsed = json::parse(golden, nullptr, false); parsed.is_object())
    recorded.options = parsed.value("options", recorded.options);
  auto reader = source::RecordingReader::open(path.string());
  if (!reader) {
    ADD_FAILURE() << reader.error().message();
    return recorded;
  }
  recorded.header = (*reader)->header();
  for (;;) {
    auto raw = (*reader)->next();
    if (!raw || !*raw)
      break;
    recorded.ticks.push_back(std::move(**raw));
  }
  return recorded;
}

std::vector<source::RawTick> records_of(const source::RawTick& raw)
{
  std::vector<source::RawTick> records;
  for (std::size_t at = 0; at < raw.size();) {
    laggard_record_header header;
    std::memcpy(&header, raw.data() + at, sizeof header);
    const auto begin = raw.begin() + static_cast<std::ptrdiff_t>(at);
    records.emplace_back(begin, begin + header.size);
    at += header.size;
  }
  return records;
}

source::RawTick joined(const std::vector<source::RawTick>& records)
{
  source::RawTick raw;
  for (const source::RawTick& record : records)
    raw.insert(raw.end(), record.begin(), record.end());
  return raw;
}

cli::Options options_of(const Recorded& recorded, const std::vector<std::string>& more)
{
  std::vector<std::string> arguments = {"laggard", "replay", recorded.name};
  arguments.insert(arguments.end(), recorded.options.begin(), recorded.options.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  std::vector<const char*> argv;
  for (const std::string& argument : arguments)
    argv.push_back(argument.c_str());
  const cli::Parsed parsed = cli::parse(static_cast<int>(argv.size()), argv.data());
  EXPECT_TRUE(parsed.options) << parsed.text;
  return parsed.options.value_or(cli::Options{});
}

Said say(const Recorded& recorded, const cli::Options& options)
{
  Said said;
  cli::Session session{options, recorded.header.observer, std::make_unique<Collector>(said)};
  for (const source::RawTick& raw : recorded.ticks)
    session.tick(raw);
  session.stop("end of recording");
  said.exit_code = session.exit_code();
  return said;
}

Said replay_file(const Recorded& recorded, cli::Options options)
{
  std::string path = (fs::temp_directory_path() / "laggard-replay-XXXXXX").string();
  const int made = ::mkstemp(path.data());
  EXPECT_GE(made, 0);
  ::close(made);
  {
    auto writer = source::RecordingWriter::create(path, recorded.header);
    EXPECT_TRUE(writer) << writer.error().message();
    for (const source::RawTick& raw : recorded.ticks)
      EXPECT_TRUE((*writer)->write(raw));
  }
  Said said;
  options.file = path;
  options.output = cli::OutputChoice::Json;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  said.exit_code = cli::run_replay(options);
  said.lines = testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  fs::remove(path);
  if (!said.lines.empty())
    said.summary = said.lines.substr(said.lines.rfind('\n', said.lines.size() - 2) + 1);
  const json summary = json::parse(said.summary, nullptr, false);
  EXPECT_TRUE(summary.is_object() && summary.value("event.name", "") == "laggard.agent.stopped") << said.summary;
  said.incomplete = summary.is_object() && summary.value("laggard.agent.incomplete", false);
  return said;
}

}  // namespace laggard::test
