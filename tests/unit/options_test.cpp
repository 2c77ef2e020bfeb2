// SPDX-License-Identifier: MIT
#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/fd.h"

namespace laggard::cli {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

Parsed parsed(std::vector<const char*> arguments)
{
  arguments.insert(arguments.begin(), "laggard");
  return parse(static_cast<int>(arguments.size()), arguments.data());
}

Options options(const std::vector<const char*>& arguments)
{
  const Parsed result = parsed(arguments);
  EXPECT_TRUE(result.options) << result.text;
  return result.options.value_or(Options{});
}

TEST(Options, DefaultsAreThoseOfTheDesign)
{
  const Options o = options({});
  EXPECT_EQ(o.command, Command::Watch);
  EXPECT_EQ(o.interval, 1s);
  EXPECT_EQ(o.duration, std::nullopt);
  EXPECT_EQ(o.output, OutputChoice::Auto);
  EXPECT_EQ(o.fail_on, std::nullopt);
  EXPECT_DOUBLE_EQ(o.max_cpu, 0.01);
  EXPECT_EQ(o.thresholds.lag, 1s);
  EXPECT_EQ(o.thresholds.hold, 5s);
  EXPECT_EQ(o.thresholds.bite_bytes, 4096U);
  EXPECT_EQ(o.thresholds.stall, 10s);
  EXPECT_EQ(o.thresholds.close_wait, 60s);
  EXPECT_EQ(o.thresholds.fin_wait, 60s);
  EXPECT_EQ(o.thresholds.idle, 30s);
  EXPECT_EQ(o.thresholds.leak_count, 10U);
  EXPECT_EQ(o.thresholds.rwnd_share, 0.5);
  EXPECT_EQ(o.thresholds.drop_share, 0.01);
  EXPECT_EQ(o.thresholds.memory_window, 30s);
  EXPECT_EQ(o.thresholds.memory_growth_bytes, 8U << 20);
  EXPECT_EQ(o.filter.min_severity, detect::Severity::Warning);
  EXPECT_TRUE(o.filter.kinds.empty() && o.filter.tgids.empty() && o.filter.comms.empty() && o.filter.ports.empty() &&
              o.filter.netns.empty() && o.filter.cgroup_ids.empty());
}

TEST(Options, TheThresholdsOfPoolsAndLosses)
{
  const Options o = options({"--idle", "3s", "--leak-count", "7", "--rwnd-share", "30%", "--drop-share", "0.05"});
  EXPECT_EQ(o.thresholds.idle, 3s);
  EXPECT_EQ(o.thresholds.leak_count, 7U);
  EXPECT_EQ(o.thresholds.rwnd_share, 0.3);
  EXPECT_EQ(o.thresholds.drop_share, 0.05);
  for (const char* name : {"--idle", "--leak-count", "--rwnd-share", "--drop-share"})
    EXPECT_EQ(parsed({name, "0"}).exit_code, kUsage) << name;
}

TEST(Options, EveryThresholdIsAnOption)
{
  const Options o = options({"--lag", "2s", "--hold", "3s", "--bite", "5KiB", "--stall", "7s", "--close-wait", "11s", "--fin-wait",
                             "13s", "--memory-window", "17s", "--memory-growth", "19MiB"});
  EXPECT_EQ(o.thresholds.lag, 2s);
  EXPECT_EQ(o.thresholds.hold, 3s);
  EXPECT_EQ(o.thresholds.bite_bytes, 5U << 10);
  EXPECT_EQ(o.thresholds.stall, 7s);
  EXPECT_EQ(o.thresholds.close_wait, 11s);
  EXPECT_EQ(o.thresholds.fin_wait, 13s);
  EXPECT_EQ(o.thresholds.memory_window, 17s);
  EXPECT_EQ(o.thresholds.memory_growth_bytes, 19U << 20);
}

TEST(Options, CommonOnesMayStandBeforeOrAfterTheCommand)
{
  for (const auto& arguments : {std::vector<const char*>{"--lag", "2s", "--output", "json", "watch"},
                                {"watch", "--lag", "2s", "--output", "json"},
                                {"--lag", "2s", "watch", "--output", "json"}}) {
    const Options o = options(arguments);
    EXPECT_EQ(o.command, Command::Watch);
    EXPECT_EQ(o.thresholds.lag, 2s);
    EXPECT_EQ(o.output, OutputChoice::Json);
  }
}

TEST(Options, AFileGetsJsonWhateverStandardOutputIs)
{
  EXPECT_EQ(options({}).output_file, "");
  const Options o = options({"watch", "--output-file", "/x"});
  EXPECT_EQ(o.output_file, "/x");
  EXPECT_EQ(sink_options(o).format, output::Format::Json);
  EXPECT_EQ(sink_options(options({"--output-file", "/x", "--output", "text"})).format, output::Format::Text);
  EXPECT_EQ(options({"replay", "--output-file", "/x", "file"}).output_file, "/x");
}

TEST(Options, EveryCommandIsKnown)
{
  EXPECT_EQ(options({"watch"}).command, Command::Watch);
  EXPECT_EQ(options({"doctor"}).command, Command::Doctor);
  EXPECT_EQ(options({"health", "--max-age", "7s"}).max_age, 7s);
  EXPECT_EQ(options({"health", "--heartbeat", "/x"}).heartbeat, "/x");
  EXPECT_EQ(options({"snapshot"}).command, Command::Snapshot);
  EXPECT_TRUE(options({"snapshot", "--all"}).everything);
  EXPECT_EQ(options({"record", "file"}).command, Command::Record);
  EXPECT_EQ(options({"replay", "file"}).command, Command::Replay);
  EXPECT_EQ(options({"replay", "file"}).file, "file");
  EXPECT_EQ(options({"replay", "-"}).file, "-");
}

TEST(Options, ReplayTakesItsFileBeforeOrBehindAnyOption)
{
  for (const auto& arguments : {std::vector<const char*>{"replay", "file", "--lag", "2s", "--fail-on", "warning"},
                                {"replay", "--lag", "2s", "file"},
                                {"--lag", "2s", "replay", "file"},
                                {"replay", "--pid", "17", "file"},
                                {"replay", "--comm", "viewer", "file"},
                                {"replay", "--only", "slow-reader", "file"},
                                {"replay", "--port", "80", "file"},
                                {"replay", "file", "--pid", "17"}}) {
    const Parsed result = parsed(arguments);
    ASSERT_TRUE(result.options) << arguments[1] << ": " << result.text;
    EXPECT_EQ(result.options->file, "file") << arguments[1];
  }
}

TEST(Options, FiltersAddUp)
{
  const Options o = options({"--pid", "17", "--pid", "19", "--comm", "a b", "--port", "80", "--port", "443", "--netns", "4026531840",
                             "--cgroup", "7001", "--only", "slow-reader,close-wait", "--min-severity", "critical"});
  EXPECT_THAT(o.filter.tgids, ElementsAre(17, 19));
  EXPECT_THAT(o.filter.comms, ElementsAre("a b"));
  EXPECT_THAT(o.filter.ports, ElementsAre(80, 443));
  EXPECT_THAT(o.filter.netns, ElementsAre(4026531840U));
  EXPECT_THAT(o.filter.cgroup_ids, ElementsAre(7001));
  EXPECT_THAT(o.filter.kinds, ElementsAre(detect::Kind::SlowReader, detect::Kind::CloseWait));
  EXPECT_EQ(o.filter.min_severity, detect::Severity::Critical);
}

TEST(Options, ACgroupPathIsItsInode)
{
  const std::string mount = std::filesystem::exists("/sys/fs/cgroup/unified") ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
  struct stat status {};
  struct statfs filesystem {};
  if (::stat(mount.c_str(), &status) == 0 && ::statfs(mount.c_str(), &filesystem) == 0 && filesystem.f_type == CGROUP2_SUPER_MAGIC) {
    EXPECT_THAT(options({"--cgroup", mount.c_str()}).filter.cgroup_ids, ElementsAre(status.st_ino));
  } else {
    EXPECT_EQ(parsed({"--cgroup", mount.c_str()}).exit_code, kUsage);
  }
}

TEST(Options, APathThatIsNoCgroupIsAUsageError)
{
  const Parsed result = parsed({"--cgroup", "/etc"});
  EXPECT_EQ(result.exit_code, kUsage);
  EXPECT_THAT(result.text, HasSubstr("'/etc' is no cgroup v2"));
}

TEST(Options, HooksAreForcedByFeed)
{
  const Options o = options({"--hook", "reads=fexit/a+fexit/b"});
  EXPECT_EQ(o.hooks.at("reads"), "fexit/a+fexit/b");
}

TEST(Options, BadValuesAreUsageErrorsThatNameTheOption)
{
  const std::pair<const char*, const char*> bad[] = {
      {"--lag", "5"},          {"--lag", "0s"},         {"--hold", "-1s"},       {"--bite", "many"},
      {"--bite", ""},          {"--stall", "1e9s"},     {"--close-wait", "soon"}, {"--fin-wait", "1fortnight"},
      {"--memory-window", "0s"}, {"--memory-growth", "8XiB"}, {"--interval", "10ms"}, {"--interval", "2m"},
      {"--duration", "0s"},    {"--duration", "long"},  {"--output", "xml"},     {"--color", "sometimes"},
      {"--fail-on", "info"},   {"--min-severity", "2"}, {"--max-cpu", "0"},      {"--max-cpu", "150%"},
      {"--loss-limit", "-1"},  {"--loss-limit", "few"}, {"--pid", "init"},       {"--pid", "-1"},
      {"--port", "65536"},     {"--port", "-1"},        {"--netns", "host"},     {"--netns", "4294967296"},
      {"--cgroup", "/no/such"}, {"--cgroup", ""},      {"--only", "slow"},     {"--hook", "reads"},     {"--cgroup", "99999999999999999999"},
  };
  for (const auto& [name, value] : bad) {
    const Parsed result = parsed({name, value});
    EXPECT_FALSE(result.options) << name << " " << value;
    EXPECT_EQ(result.exit_code, kUsage) << name << " " << value;
    EXPECT_THAT(result.text, HasSubstr(name)) << value;
    EXPECT_THAT(result.text, HasSubstr("laggard: "));
  }
}

TEST(Options, UnknownOptionsCommandsAndMissingArgumentsAreUsageErrors)
{
  for (const auto& arguments : {std::vector<const char*>{"--no-such-option"}, {"frobnicate"}, {"replay"}, {"record"}, {"--lag"},
                                {"replay", "a", "b"}, {"watch", "snapshot"}, {"--lag", "1s", "--lag", "2s"}, {"watch", "file"},
                                {"watch", "--all"}}) {
    const Parsed result = parsed(arguments);
    EXPECT_FALSE(result.options) << arguments[0];
    EXPECT_EQ(result.exit_code, kUsage) << arguments[0];
    EXPECT_FALSE(result.text.empty());
  }
}

TEST(Options, HelpAndVersionAreNoErrors)
{
  for (const char* option : {"--help", "-h", "--version", "-V"}) {
    const Parsed result = parsed({option});
    EXPECT_FALSE(result.options);
    EXPECT_EQ(result.exit_code, kObserved);
    EXPECT_THAT(result.text, HasSubstr("laggard"));
  }
  const std::string help = parsed({"--help"}).text;
  for (const char* name : {"watch", "snapshot", "record", "replay", "doctor", "--lag", "[1s]", "--bite", "[4KiB]", "--memory-growth",
                           "[8MiB]", "Exit codes"})
    EXPECT_THAT(help, HasSubstr(name));
}

// A config file for one parse.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
  {
    Fd fd{::mkstemp(name_.data())};
    std::ofstream(name_) << text;
  }
  ~ConfigFile() { ::unlink(name_.c_str()); }
  const char* name() const { return name_.c_str(); }

 private:
  std::string name_ = "/tmp/laggard-config-XXXXXX";
};

TEST(Options, AConfigFileHasTheSameNames)
{
  const ConfigFile file{"# a comment\nlag = \"2s\"\nonly = [\"slow-reader\", \"close-wait\"]\npid = [17, 19]\nkeep-privileges = true\n"};
  const Options o = options({"--config", file.name()});
  EXPECT_EQ(o.thresholds.lag, 2s);
  EXPECT_THAT(o.filter.kinds, ElementsAre(detect::Kind::SlowReader, detect::Kind::CloseWait));
  EXPECT_THAT(o.filter.tgids, ElementsAre(17, 19));
  EXPECT_TRUE(o.keep_privileges);
}

TEST(Options, TheCommandLineOverridesTheConfigFile)
{
  const ConfigFile file{"lag = \"2s\"\nhold = \"3s\"\n"};
  const Options o = options({"watch", "--config", file.name(), "--lag", "7s"});
  EXPECT_EQ(o.thresholds.lag, 7s);
  EXPECT_EQ(o.thresholds.hold, 3s);
}

TEST(Options, AConfigFileWithAMistakeIsAUsageError)
{
  for (const char* text : {"lagg = \"2s\"\n", "lag = \"soon\"\n", "[watch]\nlag = \"2s\"\n", "[thresholds]\nlag = \"2s\"\n",
                           "pid = \"init\"\n"}) {
    const ConfigFile file{text};
    const Parsed result = parsed({"--config", file.name()});
    EXPECT_FALSE(result.options) << text;
    EXPECT_EQ(result.exit_code, kUsage) << text;
    EXPECT_FALSE(result.text.empty()) << text;
  }
  const Parsed missing = parsed({"--config", "/no/such/file"});
  EXPECT_EQ(missing.exit_code, kUsage);
  EXPECT_THAT(missing.text, HasSubstr("/no/such/file"));
  const ConfigFile unknown{"lagg = \"2s\"\n"};
  EXPECT_THAT(parsed({"--config", unknown.name()}).text, HasSubstr("lagg"));
}

}  // namespace
}  // namespace laggard::cli
