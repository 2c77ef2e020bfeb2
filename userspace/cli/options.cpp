// SPDX-License-Identifier: MIT
#include "cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/units.h"
#include "cli/completions.h"
#include "cli/pairs_file.h"

namespace laggard::cli {
namespace {

constexpr const char* kListPresets = "list";
constexpr const char* kFooter =
    "Exit codes: 0 observed, 1 findings at or above --fail-on, 2 usage, 3 cannot observe,\n"
    "4 observation incomplete, 70 internal error; health: 0 healthy, 1 not.\n"
    "Durations: 500ms 5s 1h30m. Sizes: 4096 64KiB 8MiB.";

// An option whose value is read by one of base/units' parsers, and whose default is shown as a person would write it.
template <class T, class Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, T& target, Parse parse, const std::string& text,
                        const std::string& shown_default)
{
  CLI::Option* option = app.add_option_function<std::string>(
      name,
      [&target, parse, name](const std::string& value) {
        auto parsed = parse(value);
        if (!parsed)
          throw CLI::ValidationError(name, parsed.error().message());
        target = *parsed;
      },
      text);
  option->option_text(shown_default.empty() ? "" : fmt::format("[{}]", shown_default));
  return option;
}

template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, const std::map<std::string, T>& choices,
                        std::function<void(T)> take, const std::string& text, const std::string& shown)
{
  std::vector<std::string> names;
  for (const auto& [choice, _] : choices)
    names.push_back(choice);
  return app
      .add_option_function<std::string>(
          name,
          [&choices, take, name, names](const std::string& value) {
            const auto found = choices.find(value);
            if (found == choices.end()) {
              throw CLI::ValidationError(name, fmt::format("'{}' is none of {}", value, fmt::join(names, ", ")));
            }
            take(found->second);
          },
          text)
      ->type_name(fmt::format("{{{}}}", fmt::join(names, ",")))
      ->option_text(shown);
}

// A list for people, as CLI11 names choices.
std::string with_commas(std::string list)
{
  std::erase(list, ',');
  std::ranges::replace(list, ' ', ',');
  return list;
}

// Zero would make a rule fire always, or divide by it.
Result<Duration> positive_duration(std::string_view text)
{
  auto parsed = parse_duration(text);
  if (parsed && *parsed <= Duration{})
    return failure(fmt::format("'{}' must be more than nothing", text));
  return parsed;
}

Result<Duration> interval_duration(std::string_view text)
{
  auto parsed = parse_duration(text);
  if (parsed && (*parsed < std::chrono::milliseconds(50) || *parsed > std::chrono::minutes(1)))
    return failure(fmt::format("'{}' is not between 50ms and 1m", text));
  return parsed;
}

Result<std::uint64_t> positive_count(std::string_view text)
{
  auto parsed = parse_count(text);
  if (parsed && *parsed == 0)
    return failure(fmt::format("'{}' must be more than nothing", text));
  return parsed;
}

Result<double> positive_share(std::string_view text)
{
  auto parsed = parse_share(text);
  if (parsed && *parsed <= 0)
    return failure(fmt::format("'{}' must be more than nothing", text));
  return parsed;
}

// A cgroup v2 id, or a path below the cgroup2 mount: its inode is the id.
Result<std::uint64_t> cgroup_id(std::string_view text)
{
  const std::string value{text};
  if (value.empty())
    return failure("a cgroup id or path is missing");
  if (std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; }))
    return parse_count(value);
  bool exists = false;
  for (const char* mount : {"", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct stat status {};
    struct statfs filesystem {};
    const std::string path = fmt::format("{}{}{}", mount, *mount != 0 && value.front() != '/' ? "/" : "", value);
    if (::stat(path.c_str(), &status) != 0 || ::statfs(path.c_str(), &filesystem) != 0)
      continue;
    exists = true;
    if (filesystem.f_type == CGROUP2_SUPER_MAGIC && S_ISDIR(status.st_mode))
      return status.st_ino;
  }
  if (exists)
    return failure(fmt::format("'{}' is no cgroup v2: a directory below the cgroup2 mount, often /sys/fs/cgroup, is", text));
  return failure(fmt::format("'{}' is neither a cgroup id nor a cgroup v2 path", text));
}

void add_thresholds(CLI::App& app, detect::Thresholds& t)
{
  const std::string group = "Thresholds";
  const auto duration = [&](const char* name, Duration& target, const char* text) {
    std::string shown = format_duration(target);
    std::erase(shown, ' ');
    add_parsed(app, name, target, positive_duration, text, shown)->group(group);
  };
  const auto bytes = [&](const char* name, std::uint64_t& target, const char* text) {
    std::string shown = format_bytes(static_cast<double>(target));
    std::erase(shown, ' ');
    add_parsed(app, name, target, parse_bytes, text, shown)->group(group);
  };
  duration("--lag", t.lag, "slow-reader: this far behind");
  duration("--hold", t.hold, "slow-reader: queue not empty for this long");
  add_parsed(app, "--late-share", t.late_share, positive_share, "slow-reader: late for this share of --late-window", "50%")->group(group);
  duration("--late-window", t.late_window, "slow-reader: look at this much time for readers that are late in bursts");
  bytes("--bite", t.bite_bytes, "slow-reader: reads of at most this are small bites");
  duration("--stall", t.stall, "stalled-reader: nothing consumed for this long");
  duration("--leftover", t.leftover, "stalled-reader: bytes that the last read left behind wait for this long");
  duration("--close-wait", t.close_wait, "close-wait: the peer closed this long ago");
  duration("--fin-wait", t.fin_wait, "fin-wait-2: we finished sending this long ago");
  duration("--idle", t.idle, "connection-leak: sockets unused for this long count");
  add_parsed(app, "--leak-count", t.leak_count, positive_count, "connection-leak: this many of them", "10")->group(group);
  add_parsed(app, "--rwnd-share", t.rwnd_share, positive_share, "remote-slow-reader: held back by the peer's window", "50%")
      ->group(group);
  add_parsed(app, "--drop-share", t.drop_share, positive_share, "udp-receive-overflow: dropped of what arrives", "1%")->group(group);
  duration("--drop-window", t.drop_window, "udp-receive-overflow: look at this much time for bursts of loss");
  duration("--dead-peer", t.dead_peer, "dead-peer: nothing acknowledged for this long");
  add_parsed(app, "--dead-peer-count", t.dead_peer_count, positive_count, "dead-peer: this many accepted connections at once", "10")
      ->group(group);
  add_parsed(app, "--dead-peer-share", t.dead_peer_share, positive_share, "dead-peer: or this share of a listener's connections", "5%")
      ->group(group);
  duration("--memory-window", t.memory_window, "memory: look at this much time");
  bytes("--memory-growth", t.memory_growth_bytes, "memory: growth within the window");
  duration("--attribution", t.attribution, "memory: trace a suspect's growth for this long");
  add_parsed(app, "--attribution-share", t.attribution_share, positive_share,
             "memory: this share of the growth with reads is user-space-buffering, less is heap-growth", "50%")->group(group);
  duration("--unpaired", t.unpaired, "unpaired-operations: begun this long ago");
  add_parsed(app, "--unpaired-count", t.unpaired_count, positive_count, "unpaired-operations: this many of them", "10")->group(group);
}

void add_filters(CLI::App& app, detect::Filter& filter)
{
  const std::string group = "Only findings about";
  app.add_option("--pid", filter.tgids, "these processes")->group(group)->type_name("PID")->allow_extra_args(false)->check(CLI::Range(1, 1 << 22))->option_text("PID ...");
  app.add_option("--comm", filter.comms, "processes of this name")->group(group)->type_name("NAME")->allow_extra_args(false);
  app.add_option("--port", filter.ports, "this port, either end")->group(group)->type_name("PORT")->allow_extra_args(false)->check(CLI::Range(1, 65'535))->option_text("PORT ...");
  app.add_option("--netns", filter.netns, "this network namespace (inode)")->group(group)->type_name("INODE")->allow_extra_args(false);
  app.add_option_function<std::vector<std::string>>(
         "--cgroup",
         [&filter](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             auto id = cgroup_id(value);
             if (!id)
               throw CLI::ValidationError("--cgroup", id.error().message());
             filter.cgroup_ids.insert(*id);
           }
         },
         "this cgroup v2 (path or id)")
      ->group(group)
      ->type_name("PATH|ID")
      ->allow_extra_args(false);
  app.add_option_function<std::vector<std::string>>(
         "--only",
         [&filter](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             const auto kind = detect::parse_kind(value);
             if (!kind)
               throw CLI::ValidationError("--only", fmt::format("'{}' is not a finding; known are {}", value,
                                                                detect::known_kinds()));
             filter.kinds.insert(*kind);
           }
         },
         "this kind of finding")
      ->group(group)
      ->type_name("{" + with_commas(detect::known_kinds()) + "}")
      ->option_text("KIND ...")
      ->allow_extra_args(false)
      ->delimiter(',');
}

const std::map<std::string, detect::Severity> kSeverities = {{"warning", detect::Severity::Warning},
                                                             {"critical", detect::Severity::Critical}};
const std::map<std::string, OutputChoice> kOutputs = {{"auto", OutputChoice::Auto},
                                                      {"text", OutputChoice::Text},
                                                      {"json", OutputChoice::Json},
                                                      {"logfmt", OutputChoice::Logfmt}};
const std::map<std::string, std::string> kColors = {{"auto", "auto"}, {"always", "always"}, {"never", "never"}};

void add_common(CLI::App& app, Options& o)
{
  add_parsed(app, "--interval", o.interval, interval_duration, "time between two looks", "1s");
  app.add_option_function<std::string>(
         "--duration",
         [&o](const std::string& value) {
           auto parsed = positive_duration(value);
           if (!parsed)
             throw CLI::ValidationError("--duration", parsed.error().message());
           o.duration = *parsed;
         },
         "stop after this long")
      ->option_text("[until interrupted]");
  add_choice<OutputChoice>(app, "--output", kOutputs, [&o](OutputChoice choice) { o.output = choice; },
                           "auto, text, json, logfmt; auto: text on a terminal, else json", "FORMAT");
  app.add_option("--output-file", o.output_file,
                 "watch, replay: append to this file instead, auto: as json; on SIGHUP watch opens it anew, as the user that it has become")
      ->type_name("FILE")
      ->option_text("FILE");
  add_choice<std::string>(app, "--color", kColors, [&o](std::string choice) { o.color = std::move(choice); },
                          "auto, always, never; NO_COLOR is honoured", "WHEN");
  add_choice<detect::Severity>(app, "--fail-on", kSeverities, [&o](detect::Severity severity) { o.fail_on = severity; },
                               "leave with 1 if a finding of this severity was opened", "SEVERITY");
  add_choice<detect::Severity>(app, "--min-severity", kSeverities,
                               [&o](detect::Severity severity) { o.filter.min_severity = severity; },
                               "do not report findings below: warning, critical", "SEVERITY");
  add_parsed(app, "--max-cpu", o.max_cpu, positive_share, "look less often rather than use more of one core", "1%");
  add_parsed(app, "--max-memory", o.max_memory, parse_bytes, "keep fewer sockets in mind rather than use more; without it half of the cgroup's limit, at most 256MiB", "");
  add_parsed(app, "--loss-limit", o.loss_limit, parse_count, "leave with 4 if more records than this were lost", "1000");
  app.add_flag("--command-line", o.command_lines, "say the command lines of processes too: there may be secrets in them");
  app.add_option("--heartbeat", o.heartbeat, "watch: say in this file at each tick that the main loop turns; health: look there")
      ->type_name("FILE")
      ->option_text("FILE");
  add_parsed(app, "--metrics", o.metrics, output::parse_listen_address, "watch: metrics for Prometheus over HTTP; 9464 is 127.0.0.1:9464", "")
      ->option_text("ADDRESS:PORT");
  app.add_option("--metrics-textfile", o.metrics_textfile, "watch: the same as a file for node_exporter, NAME.prom; renewed every 5 s")
      ->type_name("FILE")
      ->option_text("FILE");
  app.add_flag("--keep-privileges", o.keep_privileges, "do not become nobody after loading");
  app.add_option_function<std::vector<std::string>>(
         "--hook",
         [&o](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             const auto equals = value.find('=');
             if (equals == std::string::npos)
               throw CLI::ValidationError("--hook", fmt::format("'{}' is not FEED=HOOK; 'laggard doctor' lists them", value));
             o.hooks[value.substr(0, equals)] = value.substr(equals + 1);
           }
         },
         "use this hook for this feed")
      ->option_text("FEED=HOOK")
      ->allow_extra_args(false);
}

void add_pairs(CLI::App& app, Options& o)
{
  app.add_option_function<std::vector<std::string>>(
         "--pairs",
         [&o](const std::vector<std::string>& values) {
           PairsParsed all;
           for (const std::string& value : values) {
             if (value == kListPresets && ::access(kListPresets, F_OK) != 0)
               throw CLI::CallForVersion(describe_presets(), 0);
             merge(all, read_pairs(value));
           }
           if (all.pairs.empty())
             throw CLI::ValidationError("--pairs", fmt::format("{}", fmt::join(all.errors, "\n")));
           o.pairs = std::move(all.pairs);
           o.pair_errors = std::move(all.errors);
         },
         fmt::format("watch operations that programs begin and end: a file, or {}; list: what each counts", preset_names()))
      ->type_name("{" + with_commas(preset_names() + ", list") + "}|FILE")
      ->option_text("FILE|PRESET ...")
      ->allow_extra_args(false);
  add_parsed(app, "--pairs-limit", o.pairs_limit, positive_count, "a process that hits a pair more often in a second is probed for it no more", "10000");
}

}  // namespace

Parsed parse(int argc, const char* const* argv)
{
  Options o;
  CLI::App app{"laggard names the connections whose consumers fall behind or never close.", "laggard"};
  app.set_version_flag("--version,-V", "laggard " LAGGARD_VERSION);
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  app.set_config("--config", "", "read options from this TOML file: the same names, without the dashes")
      ->type_name("FILE")
      ->option_text("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);
  add_common(app, o);
  add_pairs(app, o);
  add_filters(app, o.filter);
  add_thresholds(app, o.thresholds);

  const std::map<CLI::App*, Command> commands = {
      {app.add_subcommand("watch", "stream findings until interrupted (the default)"), Command::Watch},
      {app.add_subcommand("snapshot", "one look: sockets with unread bytes, half-closed or limited"), Command::Snapshot},
      {app.add_subcommand("record", "write raw ticks to FILE"), Command::Record},
      {app.add_subcommand("replay", "run the detector over a recording, with any thresholds, without root"), Command::Replay},
      {app.add_subcommand("explain", "trace the memory of one process: with which sockets and where in its code it grows"),
       Command::Explain},
      {app.add_subcommand("doctor", "can I observe here, with which hooks, what is missing"), Command::Doctor},
      {app.add_subcommand("health", "does the main loop of a running watch turn? For probes"), Command::Health},
  };
  for (const auto& [subcommand, command] : commands) {
    subcommand->fallthrough();
    subcommand->configurable(false);
    subcommand->footer(fmt::format("The options of 'laggard --help' may follow '{}', too, as far as they mean something to it.\n\n{}",
                                   subcommand->get_name(), kFooter));
    if (command == Command::Record || command == Command::Replay)
      subcommand->add_option("FILE", o.file, "the recording; - is standard output or input")->required();
    if (command == Command::Explain)
      subcommand->add_option("--connection", o.connection, "the process that holds it: socket cookie, Community ID or finding id")
          ->type_name("ID");
    if (command == Command::Snapshot)
      subcommand->add_flag("-a,--all", o.everything, "idle sockets too");
    if (command == Command::Health)
      subcommand->add_option_function<std::string>(
          "--max-age",
          [&o](const std::string& value) {
            auto parsed = positive_duration(value);
            if (!parsed)
              throw CLI::ValidationError("--max-age", parsed.error().message());
            o.max_age = *parsed;
          },
          "healthy if it ticked within this; default: the longer of the two")
          ->option_text("[30s or 10 intervals]");
    if (command == Command::Doctor)
      subcommand->add_flag("-v,--verbose", o.verbose, "what libbpf and the verifier said, on stderr");
  }

  std::string generated;  // by a command for packagers
  CLI::App* const completions = app.add_subcommand("completions", "what is written from the options")->group("");
  completions->add_option("WHAT", generated)->required()->check(CLI::IsMember(kGenerated));

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    std::ostringstream out, err;
    app.exit(success, out, err);
    return {std::nullopt, kObserved, out.str() + err.str()};
  } catch (const CLI::ParseError& error) {
    // CLI11 says of a key that is no option only that it "was not able to parse" it.
    std::string text = error.what();
    constexpr std::string_view kUnknownKey = "INI was not able to parse ";
    if (text.starts_with(kUnknownKey))
      text = fmt::format("the config file has the key '{}', which is no option: keys are option names without the dashes",
                         text.substr(kUnknownKey.size()));
    return {std::nullopt, kUsage, fmt::format("laggard: {}\nTry 'laggard --help'.\n", text)};
  }
  if (completions->parsed())
    return {std::nullopt, kObserved, generate(app, generated)};
  for (const auto& [subcommand, command] : commands)
    if (subcommand->parsed())
      o.command = command;
  return {std::move(o), kObserved, {}};
}

output::SinkOptions sink_options(const Options& options)
{
  output::SinkOptions sink;
  const bool terminal = options.output_file.empty() && ::isatty(STDOUT_FILENO) == 1;
  switch (options.output) {
    case OutputChoice::Auto: sink.format = terminal ? output::Format::Text : output::Format::Json; break;
    case OutputChoice::Text: sink.format = output::Format::Text; break;
    case OutputChoice::Json: sink.format = output::Format::Json; break;
    case OutputChoice::Logfmt: sink.format = output::Format::Logfmt; break;
  }
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  const bool dumb = variable("TERM") == "dumb";
  sink.color = options.color == "always" ||
               (options.color == "auto" && terminal && !dumb && variable("NO_COLOR").empty());
  winsize size{};
  if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40)
    sink.columns = size.ws_col;
  else if (!terminal)
    sink.columns = 99;
  return sink;
}

}  // namespace laggard::cli
