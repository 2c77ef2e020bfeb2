// SPDX-License-Identifier: MIT
#include "contract/output_samples.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace laggard::test {

using namespace std::chrono_literals;

WallTime sample_time()
{
  return WallTime{std::chrono::sys_days{std::chrono::year{2024} / 2 / 29} + 23h + 59min + 59s + 7ns};
}

model::Endpoint ipv4(std::initializer_list<int> bytes, int port)
{
  model::Endpoint endpoint{{}, static_cast<std::uint16_t>(port)};
  std::size_t i = 0;
  for (int byte : bytes)
    endpoint.address.bytes.at(i++) = static_cast<std::uint8_t>(byte);
  return endpoint;
}

model::Endpoint ipv6(std::string_view first_and_last_byte, int port)
{
  model::Endpoint endpoint{{}, static_cast<std::uint16_t>(port)};
  endpoint.address.is_ipv6 = true;
  endpoint.address.bytes.front() = static_cast<std::uint8_t>(first_and_last_byte.front());
  endpoint.address.bytes.back() = static_cast<std::uint8_t>(first_and_last_byte.back());
  return endpoint;
}

output::Observer sample_observer()
{
  return {.version = "0.1.0",
          .host_name = "node-7",
          .node_name = "worker-7",
          .kernel = "6.1.0-31-amd64",
          .hooks = {{"reads", "tp_btf/sock_recv_length", ""},
                    {"sweep", "iter/bpf_sk_storage_map", ""},
                    {"memory", "", "iter/task: permission denied"}},
          .missing = {"growth of process memory"},
          .replayed_from = ""};
}

detect::Finding sample_finding(detect::Kind kind, detect::Phase phase)
{
  detect::Finding finding;
  finding.id = 0xffffffff00000007;
  finding.kind = kind;
  finding.phase = phase;
  finding.sequence = phase == detect::Phase::Opened ? 1 : 3;
  finding.time = sample_time();
  finding.start_time = sample_time() - 42s;
  finding.duration = 42s;
  if (phase == detect::Phase::Resolved)
    finding.resolution = detect::Resolution::Drained;
  finding.process = {
      .id = {4121, 7}, .comm = "qt-viewer", .vpid = 11, .uid = 1009, .creation_time = sample_time() - 1h, .workload = {}};
  if (kind != detect::Kind::UserSpaceBuffering)
    finding.socket = detect::SocketRef{model::Transport::Tcp, model::TcpState::Established,
                                       {ipv4({10, 0, 0, 7}, 52114), ipv4({10, 0, 0, 9}, 17725)}, false, true,
                                       18446744073709551557U, 4026531833, 9007199254740997, 65537};
  else
    finding.examples = {{ipv4({10, 0, 0, 7}, 52114), ipv4({10, 0, 0, 9}, 17725)}};
  finding.message = "reads 450 k/s of 12 B and is 18 ms behind with 24.1 KiB unread";
  finding.details = {
      "queue never emptied: ≥ 24.1 KiB unread; our window held the sender back 97 % of the time",
      "reads: 450 k/s of 12 B (median); 5.4 MB/s taken, 18 ms behind here, more waits at the sender"};
  finding.advice = "the program takes 12 bytes per call from a queue of 24 KiB: read until EAGAIN, or larger blocks";
  finding.evidence = {{"recv_queue_bytes", std::uint64_t{24677}}, {"lag_seconds", 0.018}, {"eof_seen", true}};
  finding.thresholds = {{"hold_seconds", 5.0}, {"bite_bytes", std::uint64_t{4096}}};
  finding.quality = {"reads=tp_btf/sock_recv_length", 0, {}, {"growth of process memory"}};
  return finding;
}

detect::Finding sample_group()
{
  detect::Finding finding = sample_finding(detect::Kind::CloseWait);
  finding.is_group = true;
  finding.count = 551;
  for (int i = 0; i < 5; i++)
    finding.examples.push_back({ipv4({10, 0, 0, 7}, 40001 + i), ipv4({10, 0, 0, 9}, 80)});
  finding.socket->state = model::TcpState::CloseWait;
  finding.socket->tuple = finding.examples.front();
  return finding;
}

output::SocketLine sample_socket()
{
  output::SocketLine line;
  line.time = sample_time();
  model::SocketSample& sample = line.sample;
  sample.cookie = 9007199254740997;
  sample.time = mono_time(1'000'000'000'007);
  sample.state = model::TcpState::Established;
  sample.tuple = {ipv4({10, 0, 0, 7}, 52114), ipv4({10, 0, 0, 9}, 17725)};
  sample.netns = 4026531833;
  sample.unread_bytes = 24677;
  sample.rmem_bytes = 49999;
  sample.rcvbuf_bytes = 131071;
  sample.write_seq = 5;
  sample.snd_una = 0xfffffffe;  // 7 bytes, across the wrap
  sample.reads = 13;
  sample.last_read = sample.time - 17s;
  line.process = {.id = {4121, 7}, .comm = "qt-viewer", .vpid = 0, .uid = {}, .creation_time = {}, .workload = {}};
  line.holders = {4121};
  line.oldest_unread_at_least = 192s;
  return line;
}

output::Summary sample_summary()
{
  return {.time = sample_time(), .observed = 31s, .ticks = 29, .findings_opened = 0, .findings_open = 0,
          .sockets_tracked = 1237, .lost = {}, .incomplete = false, .reason = "duration reached"};
}

output::Degraded sample_degraded()
{
  return {.time = sample_time(), .message = "sockets are swept every 7 s only: --max-cpu", .lost = {3, 5, 0}};
}

std::vector<std::string> hostile_names()
{
  return {"a\nSLOW READER  b[1]",
          "quote\"back\\slash",
          "\x1b[31mred\x1b]0;x\x07",
          "bad\xff\xc3(\xe2\x82",
          "overlong\xc0\xaf\xed\xa0\x80",
          "emoji\xf0\x9f\x98\x80",
          "bidi\xe2\x80\xaetxt",
          "c1\xc2\x9b" "31m\x7f",
          std::string("nul\0nul", 7),
          "a=b c",
          "a=b",
          "a\"b",
          " ",
          "tab\tcr\r"};
}

Capture::Capture() : fd_(::memfd_create("capture", MFD_CLOEXEC)) { EXPECT_GE(fd_, 0); }
Capture::~Capture() { ::close(fd_); }

std::string Capture::text() const
{
  std::string text(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

std::vector<std::string> lines_of(std::string_view text)
{
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    EXPECT_NE(end, std::string_view::npos) << "the last line has no end";
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

std::vector<std::pair<std::string, std::string>> parse_logfmt(std::string_view line)
{
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!line.empty()) {
    const std::size_t equals = line.find('=');
    EXPECT_NE(equals, std::string_view::npos) << line;
    if (equals == std::string_view::npos)
      break;
    const std::string key(line.substr(0, equals));
    line.remove_prefix(equals + 1);
    std::size_t end = 0;
    if (line.starts_with('"')) {
      for (end = 1; end < line.size() && line[end] != '"'; end++)
        if (line[end] == '\\')
          end++;
      end++;
      const auto value = nlohmann::json::parse(line.substr(0, end), nullptr, false);
      EXPECT_TRUE(value.is_string()) << line;
      pairs.emplace_back(key, value.is_string() ? value.get<std::string>() : "");
    } else {
      end = std::min(line.find(' '), line.size());
      pairs.emplace_back(key, line.substr(0, end));
      EXPECT_EQ(pairs.back().second.find_first_of("\"=\\"), std::string::npos) << line;
    }
    EXPECT_TRUE(end >= line.size() || line[end] == ' ') << line;
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return pairs;
}

}  // namespace laggard::test
