// SPDX-License-Identifier: MIT
#include "options.h"

#include <charconv>
#include <map>
#include <string_view>

namespace workload {
namespace {

using namespace std::chrono_literals;

const char* const kUsage =
    "usage: workload SCENARIO [--key value]...\n"
    "Plays one program of known behaviour on loopback. Facts on stdout, commands on stdin, one per line.\n"
    "\nOptions (sizes: 1009 64KiB 100MB; durations: 50ms 5s, bare number = seconds):\n"
    "  --role accepted|connected   which end is observed (the peer is another process)\n"
    "  --listen-only               the same as --role accepted\n"
    "  --family 4|6   --proto tcp|udp   --port N (of the listening end)   --rcvbuf BYTES (of the observed end)\n"
    "  --rate BYTES_PER_SEC|max    of the sender      --bytes N           that the sender sends, then it pauses\n"
    "  --bite BYTES --every TIME   of the reader      --call recv|read|recvmsg\n"
    "  --count N                   sockets (leak-conns, idle-pool, one-*) or datagrams   --size BYTES of each message\n"
    "  --cap BYTES                 cache: kept; hoarder: ends the program   --per-second N  --linger TIME  visits\n"
    "  --eof never|seen|eaten      close-wait: never read | read until 0 | one read took the last data and the FIN\n"
    "  --delay-start TIME|command  print ready when connected; begin after TIME or at the command start\n"
    "  --netns                     in a new network namespace\n"
    "  --drop-uid UID              give up root before the sockets are made\n"
    "  --no-stdin                  read no commands: run until killed or --lifetime\n"
    "  --lifetime TIME             end in any case (120)   --deadline TIME  of every wait (20)\n"
    "\nCommands: stat start pause resume stop; on the first socket: read N SIZE, peek N SIZE, read-eagain,\n"
    "read-all [SIZE], splice N, recvmmsg N SIZE, shutdown, close, fork-close, reopen; at the peer: send N [SIZE],\n"
    "send-fin N, peer-fin, peer-close. The answers are described at the top of main.cpp.\n"
    "\nScenarios:\n";

const std::map<std::string_view, double> kByteUnits = {{"", 1},        {"B", 1},         {"kB", 1e3},
                                                       {"MB", 1e6},    {"GB", 1e9},      {"KiB", 1024},
                                                       {"MiB", 1048576}, {"GiB", 1073741824}};
const std::map<std::string_view, double> kTimeUnits = {{"", 1e9},  {"ns", 1}, {"us", 1e3}, {"ms", 1e6},
                                                       {"s", 1e9}, {"m", 60e9}};

double parse_unit(const std::string& text, const std::map<std::string_view, double>& units)
{
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = units.find(std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end)));
  if (error != std::errc{} || unit == units.end() || number > 1'000'000'000'000'000)
    throw Failure("'" + text + "' is not a number with a known unit");
  return static_cast<double>(number) * unit->second;
}

Duration parse_time(const std::string& text)
{
  const double ns = parse_unit(text, kTimeUnits);
  if (ns > 86400e9)
    throw Failure("'" + text + "' is more than a day");
  return Duration{static_cast<Duration::rep>(ns)};
}

std::uint64_t parse_at_most(const std::string& text, std::uint64_t most)
{
  const std::uint64_t number = parse_number(text);
  if (number > most)
    throw Failure("'" + text + "' is more than " + std::to_string(most));
  return number;
}

// The position of `text` in `choices`.
std::size_t choose(const std::string& key, const std::string& text, const std::vector<std::string>& choices)
{
  for (std::size_t index = 0; index < choices.size(); index++)
    if (choices[index] == text)
      return index;
  throw Failure(key + " does not know '" + text + "'; see workload --help");
}

bool set_flag(Options& options, const std::string& key)
{
  if (key == "--netns")
    options.netns = true;
  else if (key == "--no-stdin")
    options.from_stdin = false;
  else if (key == "--listen-only")
    options.connected = false;
  else
    return false;
  return true;
}

bool set_amount(Options& options, const std::string& key, const std::string& value)
{
  if (key == "--rate")
    options.rate = value == "max" ? kUnlimited : parse_number(value);
  else if (key == "--bytes")
    options.bytes_given = true, options.bytes = parse_number(value);
  else if (key == "--bite")
    options.bite = parse_at_most(value, 1 << 26);
  else if (key == "--count")
    options.count = parse_at_most(value, 100'000);
  else if (key == "--size")
    options.size = parse_at_most(value, 1 << 26);
  else if (key == "--cap")
    options.cap = parse_number(value);
  else if (key == "--per-second")
    options.per_second = parse_at_most(value, 10'000);
  else if (key == "--port")
    options.port = static_cast<std::uint16_t>(parse_at_most(value, 65535));
  else if (key == "--rcvbuf")
    options.rcvbuf = static_cast<int>(parse_at_most(value, 1 << 30));
  else if (key == "--drop-uid")
    options.uid = static_cast<unsigned>(parse_at_most(value, 1 << 30));
  else
    return false;
  return true;
}

bool set_choice(Options& options, const std::string& key, const std::string& value)
{
  if (key == "--role")
    options.connected = choose(key, value, {"accepted", "connected"}) == 1;
  else if (key == "--family")
    options.family = choose(key, value, {"4", "6"}) == 1 ? 6 : 4;
  else if (key == "--proto")
    options.udp = choose(key, value, {"tcp", "udp"}) == 1;
  else if (key == "--eof")
    choose(key, value, {"never", "seen", "eaten"}), options.eof = value;
  else if (key == "--call")
    options.call = static_cast<Call>(choose(key, value, {"recv", "read", "recvmsg"}));
  else
    return false;
  return true;
}

bool set_time(Options& options, const std::string& key, const std::string& value)
{
  if (key == "--every")
    options.every = parse_time(value);
  else if (key == "--linger")
    options.linger = parse_time(value);
  else if (key == "--lifetime")
    options.lifetime = parse_time(value);
  else if (key == "--deadline")
    options.deadline = parse_time(value);
  else if (key == "--delay-start") {
    options.delayed = true;
    if (value != "command")
      options.delay = parse_time(value);
  } else
    return false;
  return true;
}

void check(const Options& options)
{
  if (options.bite == 0 || options.count == 0)
    throw Failure("--bite and --count must be more than 0");
  if ((options.pace == Pace::timed || options.pace == Pace::timed_drain || options.play == Play::long_poll) &&
      options.every == Duration{0})
    throw Failure("--every must be more than 0");
  if ((options.play == Play::visits || options.play == Play::leak) && options.per_second == 0)
    throw Failure("--per-second must be more than 0");
  if (options.udp && options.play != Play::reader && options.play != Play::exact)
    throw Failure(std::string(options.name) + " is for TCP only");
  if (options.size > kMostDatagram && (options.udp || options.play == Play::visits || options.play == Play::many))
    throw Failure("--size of a message is at most " + std::to_string(kMostDatagram));
  if (options.keep != Keep::nothing && options.size == 0)
    throw Failure("--size must be more than 0");
  if (options.play == Play::close_wait && options.eof == "eaten" && options.bytes == 0)
    throw Failure("--eof eaten needs --bytes of at least 1");
  if (options.lifetime < 1s)
    throw Failure("--lifetime must be at least 1s");
}

}  // namespace

const std::vector<Spec>& scenarios()
{
  static const std::vector<Spec> table = {
      {.name = "slow-reader", .help = "reads --bite 1024 every --every 50ms; sender --rate 1000000",
       .play = Play::reader, .pace = Pace::timed, .rate = 1'000'000, .bite = 1024, .every = 50ms},
      {.name = "never-reads", .help = "sender sends --bytes 50021 and pauses, or --rate for ever",
       .play = Play::reader, .bytes = 50021},
      {.name = "never-reads-udp", .help = "--count 31 datagrams of --size 101, or --rate for ever",
       .play = Play::reader, .udp = true, .count = 31, .size = 101},
      {.name = "udp-overflow", .help = "reads --bite 2048 every --every 10ms; sender --rate 1000000 in datagrams of --size 1000",
       .play = Play::reader, .pace = Pace::timed, .udp = true, .rate = 1'000'000, .bite = 2048, .every = 10ms, .size = 1000},
      {.name = "close-wait", .help = "peer closed (after --bytes 211); see --eof",
       .play = Play::close_wait, .bytes = 211},
      {.name = "fin-wait-2", .help = "observed shut down sending, peer never closes", .play = Play::fin_wait},
      {.name = "fin-wait-2-orphan", .help = "observed closed its socket, peer never closes", .play = Play::orphan},
      {.name = "hoarder", .help = "reads --rate 3000000 and keeps it, in chunks of --size 65536, up to --cap 512MiB",
       .play = Play::reader, .pace = Pace::arrival, .keep = Keep::everything, .rate = 3'000'000, .size = 65536,
       .cap = 512 << 20},
      {.name = "one-slow", .help = "--count 200 connections; one is a slow-reader's, --rate 100000, the others are read at once",
       .play = Play::crowd, .pace = Pace::timed, .rate = 100'000, .bite = 1024, .every = 50ms, .count = 200},
      {.name = "one-hoarded", .help = "--count 200 connections; one is a hoarder's, --rate 1000000, the others are read at once",
       .play = Play::crowd, .pace = Pace::arrival, .keep = Keep::everything, .rate = 1'000'000, .count = 200,
       .size = 65536, .cap = 512 << 20},
      {.name = "leak-conns", .help = "--count 551 connections to one endpoint, each --bytes 1009 unread",
       .play = Play::many, .connected = true, .bytes = 1009, .count = 551},
      {.name = "forked-holder", .help = "--bytes 50021 unread, then a forked child holds the socket, its opener closes",
       .play = Play::forked, .connected = true, .bytes = 50021},
      {.name = "accept-backlog", .help = "--count 3 clients connect, each sends --bytes 17, and nobody accepts them",
       .play = Play::backlog, .bytes = 17, .count = 3},
      {.name = "pool-leak", .help = "--per-second 2: opens a connection, uses it once with --size 64, and keeps it",
       .play = Play::leak, .connected = true, .size = 64, .per_second = 2},
      {.name = "bulk", .help = "reads 64 KiB blocks as fast as it can; sender --rate max",
       .play = Play::reader, .pace = Pace::arrival, .rate = kUnlimited},
      {.name = "batch", .help = "every --every 500ms reads until EAGAIN; sender --rate 100000",
       .play = Play::reader, .pace = Pace::timed_drain, .rate = 100'000, .every = 500ms},
      {.name = "idle-pool", .help = "--count 100 connections, idle after a small exchange of --size 64",
       .play = Play::many, .connected = true, .chatty = true, .count = 100, .size = 64},
      {.name = "churn", .help = "--per-second 200 connections, each a request, a reply and a proper close",
       .play = Play::visits, .connected = true, .size = 128, .per_second = 200},
      {.name = "peek", .help = "at each arrival MSG_PEEK, then read; sender --rate 100000",
       .play = Play::reader, .pace = Pace::arrival_peek, .rate = 100'000},
      {.name = "cache", .help = "reads --rate 10000000, keeps --cap 100MB, then discards; chunks of --size 65536",
       .play = Play::reader, .pace = Pace::arrival, .keep = Keep::up_to_cap, .rate = 10'000'000, .size = 65536,
       .cap = 100'000'000},
      {.name = "discard", .help = "reads all of --rate 3000000 and discards it",
       .play = Play::reader, .pace = Pace::arrival, .rate = 3'000'000},
      {.name = "half-close", .help = "--per-second 1: request, shutdown, peer replies and closes after --linger 500ms",
       .play = Play::visits, .connected = true, .shuts_down = true, .size = 128, .per_second = 1, .linger = 500ms},
      {.name = "long-poll", .help = "request, then waits; peer replies --every 60s",
       .play = Play::long_poll, .connected = true, .every = 60s, .size = 128},
      {.name = "exact", .help = "does exactly what the commands say", .play = Play::exact},
  };
  return table;
}

std::string help_text()
{
  std::string text = kUsage;
  for (const Spec& spec : scenarios())
    text += "  " + std::string(spec.name) + std::string(19 - std::string_view(spec.name).size(), ' ') + spec.help +
            (spec.connected ? " (role: connected)" : "") + "\n";
  return text;
}

std::uint64_t parse_number(const std::string& text)
{
  return static_cast<std::uint64_t>(parse_unit(text, kByteUnits));
}

int address_family(const Options& options)
{
  return options.family == 6 ? AF_INET6 : AF_INET;
}

Options parse_options(const std::vector<std::string>& arguments)
{
  Options options;
  bool found = false;
  if (!arguments.empty())
    for (const Spec& spec : scenarios())
      if (arguments[0] == spec.name)
        static_cast<Spec&>(options) = spec, found = true;
  if (!found)
    throw Failure("no such scenario; see workload --help");
  for (std::size_t index = 1; index < arguments.size(); index++) {
    const std::string& key = arguments[index];
    if (set_flag(options, key))
      continue;
    if (index + 1 == arguments.size())
      throw Failure("unknown option or missing value: '" + key + "'; see workload --help");
    const std::string& value = arguments[++index];
    if (!set_amount(options, key, value) && !set_choice(options, key, value) && !set_time(options, key, value))
      throw Failure("unknown option '" + key + "'; see workload --help");
  }
  check(options);
  return options;
}

}  // namespace workload
