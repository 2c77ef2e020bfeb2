// SPDX-License-Identifier: MIT
// What the command line asked for, over the defaults of the scenario.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "system.h"

namespace workload {

constexpr std::uint64_t kUnlimited = UINT64_MAX;
constexpr std::uint64_t kMostDatagram = 65507;  // 65535 - 8 of UDP - 20 of IPv4

enum class Play { reader, crowd, close_wait, fin_wait, orphan, many, visits, long_poll, forked, backlog, leak, exact };
enum class Pace { never, timed, timed_drain, arrival, arrival_peek };  // when a Play::reader reads
enum class Keep { nothing, everything, up_to_cap };

// One row per scenario: its behaviour and the defaults that options override. 0: not used by this scenario.
struct Spec {
  const char* name = "";
  const char* help = "";
  Play play = Play::exact;
  Pace pace = Pace::never;
  Keep keep = Keep::nothing;
  bool udp = false;
  bool connected = false;    // default role of the observed end
  bool shuts_down = false;   // visits: observed shuts down sending before the reply
  bool chatty = false;       // many: a small exchange instead of unread data
  std::uint64_t rate = 0;    // bytes per second of the sender
  std::uint64_t bytes = 0;   // that the sender sends; 0 with a rate: for ever
  std::uint64_t bite = 65536;
  Duration every{0};
  std::uint64_t count = 1;   // sockets, or datagrams for UDP
  std::uint64_t size = 0;    // of a datagram, request or reply
  std::uint64_t cap = 0;
  std::uint64_t per_second = 0;
  Duration linger{0};        // visits: the peer waits this long before it replies and closes
};

enum class Call { recv, read, recvmsg };

struct Options : Spec {
  int family = 4;
  Call call = Call::recv;
  std::string eof = "seen";
  std::uint16_t port = 0;
  int rcvbuf = 0;
  bool netns = false;
  bool from_stdin = true;
  std::optional<unsigned> uid;
  bool delayed = false;
  std::optional<Duration> delay;  // delayed without a delay: until the `start` command
  Duration lifetime = std::chrono::seconds(120);
  Duration deadline = std::chrono::seconds(20);
  bool bytes_given = false;
};

const std::vector<Spec>& scenarios();
std::string help_text();
Options parse_options(const std::vector<std::string>& arguments);  // throws Failure
std::uint64_t parse_number(const std::string& text);               // "1009", "64KiB", "100MB"; throws Failure
int address_family(const Options& options);

}  // namespace workload
