// SPDX-License-Identifier: MIT
// What json and logfmt promise to a parser: SCHEMA, every line of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <functional>
#include <limits>
#include <set>
#include <thread>

#include "contract/output_samples.h"
#include "contract/output_schema_check.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using output::Format;

constexpr std::array kKinds = {
#define LAGGARD_KIND_VALUE(name, text) detect::Kind::name,
    LAGGARD_FINDING_KINDS(LAGGARD_KIND_VALUE)
#undef LAGGARD_KIND_VALUE
};
constexpr std::array kPhases = {detect::Phase::Opened, detect::Phase::Updated, detect::Phase::Resolved};

const OutputSchema& schema()
{
  static const OutputSchema shipped;
  return shipped;
}

// One line, valid, as JSON; and the same event as logfmt has the same keys.
json checked(const std::function<bool(output::Sink&)>& say)
{
  const Printed printed = print({.format = Format::Json}, say);
  EXPECT_TRUE(printed.ok);
  EXPECT_EQ(printed.diagnostics, "");
  const std::vector<std::string> lines = lines_of(printed.out);
  EXPECT_EQ(lines.size(), 1U);
  if (lines.size() != 1)
    return {};
  for (const std::string& violation : schema().check(lines.front()))
    ADD_FAILURE() << violation << "\n" << lines.front();

  const auto ordered = nlohmann::ordered_json::parse(lines.front(), nullptr, false);
  std::vector<std::string> keys;
  for (const auto& [key, value] : ordered.items())
    keys.push_back(key);
  const Printed logfmt = print({.format = Format::Logfmt}, say);
  const std::vector<std::string> logfmt_lines = lines_of(logfmt.out);
  EXPECT_EQ(logfmt_lines.size(), 1U);
  EXPECT_LE(logfmt.out.size(), 8000U);
  std::vector<std::string> logfmt_keys;
  for (const auto& [key, value] : parse_logfmt(logfmt_lines.front())) {
    logfmt_keys.push_back(key);
    if (ordered.contains(key) && ordered[key].is_string() && !ordered.contains("laggard.quality.shortened")) {
      EXPECT_EQ(value, ordered[key].get<std::string>()) << key;
    }
  }
  EXPECT_EQ(logfmt_keys, keys);
  return json::parse(lines.front(), nullptr, false);
}

json checked(const detect::Finding& finding)
{
  return checked([&](output::Sink& sink) { return sink.finding(finding); });
}
json checked(const output::SocketLine& line)
{
  return checked([&](output::Sink& sink) { return sink.socket(line); });
}
json checked(const output::Summary& summary)
{
  return checked([&](output::Sink& sink) { return sink.stopped(summary); });
}

TEST(OutputLines, EveryKindInEveryPhase)
{
  for (detect::Kind kind : kKinds)
    for (detect::Phase phase : kPhases) {
      const json line = checked(sample_finding(kind, phase));
      EXPECT_EQ(line["laggard.finding.kind"], to_string(kind));
      EXPECT_EQ(line["event.name"], "laggard.finding." + std::string(to_string(phase)));
      EXPECT_EQ(line["severity"], phase == detect::Phase::Resolved ? "info" : "warn");
    }
}

TEST(OutputLines, AFindingSaysAllOfTheContract)
{
  const json line = checked(sample_finding());
  const json expected = {
      {"timestamp", "2024-02-29T23:59:59.000000007Z"},
      {"severity", "warn"},
      {"event.name", "laggard.finding.opened"},
      {"message", "qt-viewer[4121] 10.0.0.7:52114 <- 10.0.0.9:17725 slow-reader: reads 450 k/s of 12 B and is 18 ms "
                  "behind with 24.1 KiB unread"},
      {"service.name", "laggard"},
      {"service.version", "0.1.0"},
      {"laggard.schema.version", "1"},
      {"host.name", "node-7"},
      {"k8s.node.name", "worker-7"},
      {"laggard.finding.id", "ffffffff00000007"},
      {"laggard.finding.kind", "slow-reader"},
      {"laggard.finding.sequence", 1},
      {"laggard.finding.start_time", "2024-02-29T23:59:17.000000007Z"},
      {"laggard.finding.start_is_lower_bound", false},
      {"laggard.finding.duration_seconds", 42.0},
      {"laggard.finding.advice",
       "the program takes 12 bytes per call from a queue of 24 KiB: read until EAGAIN, or larger blocks"},
      {"process.pid", 4121},
      {"process.executable.name", "qt-viewer"},
      {"process.creation.time", "2024-02-29T22:59:59.000000007Z"},
      {"process.vpid", 11},
      {"process.user.id", 1009},
      {"network.transport", "tcp"},
      {"network.type", "ipv4"},
      {"network.connection.state", "established"},
      {"network.local.address", "10.0.0.7"},
      {"network.local.port", 52114},
      {"network.peer.address", "10.0.0.9"},
      {"network.peer.port", 17725},
      {"client.address", "10.0.0.7"},
      {"client.port", 52114},
      {"server.address", "10.0.0.9"},
      {"server.port", 17725},
      {"network.community_id", "1:Qb5BRVmTaOp8on4oYlGft657gYg="},  // as Python's hashlib and base64 make it
      {"laggard.socket.cookie", "18446744073709551557"},
      {"laggard.socket.netns", 4026531833},
      {"laggard.socket.cgroup_id", "9007199254740997"},
      {"laggard.socket.inode", 65537},
      {"laggard.evidence.recv_queue_bytes", 24677},
      {"laggard.evidence.lag_seconds", 0.018},
      {"laggard.evidence.eof_seen", true},
      {"laggard.threshold.hold_seconds", 5.0},
      {"laggard.threshold.bite_bytes", 4096},
      {"laggard.quality.hooks", "reads=tp_btf/sock_recv_length"},
      {"laggard.quality.lost_records", 0},
      {"laggard.quality.missing", {"growth of process memory"}},
  };
  EXPECT_EQ(json::diff(expected, line), json::array());
  // A double stays one: readers guess the type of a field from the first line.
  EXPECT_TRUE(line["laggard.finding.duration_seconds"].is_number_float());
  EXPECT_TRUE(line["laggard.threshold.hold_seconds"].is_number_float());
}

TEST(OutputLines, WhereTheProcessRuns)
{
  detect::Finding finding = sample_finding();
  const std::string id = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
  finding.process.workload = {id, "containerd", "shop", "cart-0", "0f1e2d3c-1111-2222-3333-444455556666", "web", "", ""};
  const json line = checked(finding);
  EXPECT_EQ(line["container.id"], id);
  EXPECT_EQ(line["container.runtime.name"], "containerd");
  EXPECT_EQ(line["k8s.namespace.name"], "shop");
  EXPECT_EQ(line["k8s.pod.name"], "cart-0");
  EXPECT_EQ(line["k8s.pod.uid"], "0f1e2d3c-1111-2222-3333-444455556666");
  EXPECT_EQ(line["k8s.container.name"], "web");
  EXPECT_FALSE(line.contains("laggard.systemd.unit"));
  EXPECT_THAT(line["message"].get<std::string>(), testing::StartsWith("qt-viewer[4121] (pod shop/cart-0/web) 10.0.0.7:52114 <- "));
  // Nobody holds the socket, and where it is from is known.
  finding.process = {};
  finding.process.workload.systemd_unit = "nginx.service";
  const json nobody = checked(finding);
  EXPECT_EQ(nobody["laggard.systemd.unit"], "nginx.service");
  EXPECT_FALSE(nobody.contains("process.pid"));
}

TEST(OutputLines, CriticalIsErrorAndResolvedSaysWhyAndWhen)
{
  detect::Finding finding = sample_finding();
  finding.severity = detect::Severity::Critical;
  EXPECT_EQ(checked(finding)["severity"], "error");
  for (auto [resolution, text] : {std::pair{detect::Resolution::Drained, "drained"},
                                  {detect::Resolution::Closed, "closed"},
                                  {detect::Resolution::ProcessExited, "process_exited"},
                                  {detect::Resolution::Subsided, "subsided"},
                                  {detect::Resolution::ObserverStopped, "observer_stopped"},
                                  {detect::Resolution::LostSight, "lost_sight"},
                                  {detect::Resolution::Regrouped, "regrouped"}}) {
    finding.phase = detect::Phase::Resolved;
    finding.resolution = resolution;
    const json line = checked(finding);
    EXPECT_EQ(line["severity"], "info");
    EXPECT_EQ(line["laggard.finding.resolution"], text);
    EXPECT_EQ(line["laggard.finding.end_time"], "2024-02-29T23:59:59.000000007Z");
  }
}

TEST(OutputLines, OfManyAlikeItCountsProcessesAndEndpointsAndNamesTheWorst)
{
  detect::Finding finding = sample_group();
  finding.is_whole = true;
  finding.processes = 200;
  finding.endpoints = 3;
  finding.example_processes = {"worker[17]", "worker[19]", "worker[23]", "worker[29]", "worker[31]"};
  const json line = checked(finding);
  EXPECT_EQ(line["laggard.finding.processes"], 200);
  EXPECT_EQ(line["laggard.finding.endpoints"], 3);
  EXPECT_EQ(line["laggard.example_processes"].size(), 5U);
  EXPECT_NE(line["message"].get<std::string>().find("551 connections to 3 endpoints"), std::string::npos);
  EXPECT_FALSE(checked(sample_group()).contains("laggard.finding.processes"));
}

TEST(OutputLines, AGroupHasACountAndAtMostFiveExamples)
{
  detect::Finding finding = sample_group();
  finding.examples.resize(1009, finding.examples.front());
  const json line = checked(finding);
  EXPECT_EQ(line["laggard.finding.count"], 551);
  EXPECT_EQ(line["laggard.examples"].size(), 5U);
  EXPECT_EQ(line["laggard.examples"][0], "10.0.0.7:40001>10.0.0.9:80");
  EXPECT_NE(line["message"].get<std::string>().find("551 connections to 10.0.0.9:80 close-wait"), std::string::npos);
  finding.socket->connected = false;
  finding.socket->accepted = true;
  const json server = checked(finding);
  EXPECT_NE(server["message"].get<std::string>().find("551 connections on 10.0.0.7:40001"), std::string::npos);
  EXPECT_EQ(server["server.port"], 40001);
  EXPECT_EQ(server["client.address"], "10.0.0.9");
  EXPECT_FALSE(checked(sample_finding()).contains("laggard.finding.count"));
}

TEST(OutputLines, WhatIsNotKnownIsNotSaid)
{
  detect::Finding finding = sample_finding();
  finding.process = {};
  finding.socket->connected = false;
  finding.socket->cgroup_id = 0;
  finding.socket->inode = 0;
  finding.evidence = {{"lag_seconds", std::nan("")},
                      {"reads_per_second", std::numeric_limits<double>::infinity()},
                      {"sender_lag_seconds", -std::numeric_limits<double>::infinity()},
                      {"recv_queue_bytes", std::uint64_t{7}},
                      {"recv_queue_bytes", std::uint64_t{11}}};
  const json line = checked(finding);
  for (const auto& [key, value] : line.items()) {
    EXPECT_FALSE(key.starts_with("process.") || key.starts_with("client.") || key.starts_with("server.")) << key;
    EXPECT_FALSE(key.starts_with("laggard.evidence.") && !key.ends_with("recv_queue_bytes")) << key;
  }
  EXPECT_EQ(line["laggard.evidence.recv_queue_bytes"], 7);
  EXPECT_FALSE(line.contains("laggard.socket.cgroup_id") || line.contains("laggard.socket.inode"));
  EXPECT_TRUE(line["message"].get<std::string>().starts_with("unknown process 10.0.0.7:52114"));
}

TEST(OutputLines, NoNameForgesALineOrDrivesATerminal)
{
  for (const std::string& name : hostile_names()) {
    detect::Finding finding = sample_finding();
    finding.process.comm = name;
    finding.process.workload.command_line = name;
    finding.message = name;
    finding.advice = name;
    const json line = checked(finding);
    EXPECT_EQ(line.value("process.command_line", ""), line.value("process.executable.name", ""));
    const std::string message = line["message"];
    // `jq -r .message` prints it raw.
    for (char c : message)
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << message;
    output::SocketLine socket = sample_socket();
    socket.process.comm = name;
    EXPECT_EQ(checked(socket)["process.executable.name"], line["process.executable.name"]);
  }
  detect::Finding finding = sample_finding();
  finding.process.comm = "a\n\"\\\x1b\x7f\xc2\x9b\xff\xf0\x9f\x98\x80";
  EXPECT_EQ(checked(finding)["process.executable.name"],
            "a\n\"\\\x1b\x7f\xc2\x9b\xef\xbf\xbd\xf0\x9f\x98\x80");
}

TEST(OutputLines, FitInto8000BytesAndKeepTheirStructure)
{
  const json usual = checked(sample_finding());
  detect::Finding finding = sample_finding();
  for (int i = 0; i < 20000; i++)
    finding.message += "\xe2\x82\xac";
  finding.advice.assign(9973, '\x01');
  finding.process.comm.assign(9973, '\xff');
  finding.quality.hooks.assign(9973, '"');
  finding.quality.missing.assign(997, "a clause of some length, with euro \xe2\x82\xac");
  finding.quality.missing.push_back(std::string(9973, 'x'));
  for (std::uint32_t pid = 1; pid <= 100'000; pid++)
    finding.holders.push_back(pid);
  const json line = checked(finding);
  for (const auto& [key, value] : usual.items())
    EXPECT_TRUE(line.contains(key)) << key;
  EXPECT_EQ(line["laggard.quality.shortened"], true);
  EXPECT_EQ(line["laggard.process.holders"][0], 1);
  EXPECT_FALSE(line["laggard.quality.missing"].empty());
  EXPECT_EQ(line["laggard.evidence.recv_queue_bytes"], 24677);
  // Cut between characters: nothing had to be replaced.
  EXPECT_EQ(line["message"].get<std::string>().find("\xef\xbf\xbd"), std::string::npos);
  EXPECT_FALSE(usual.contains("laggard.quality.shortened"));
}

TEST(OutputLines, TheLimitIsExact)
{
  for (Format format : {Format::Json, Format::Logfmt}) {
    std::size_t longest = 0;
    for (std::size_t size = 5000; size < 8000; size++) {
      detect::Finding finding = sample_finding();
      finding.message.assign(size, 'x');
      const Printed printed = print({.format = format}, [&](output::Sink& sink) { return sink.finding(finding); });
      longest = std::max(longest, printed.out.size());
      const bool whole = printed.out.find(finding.message) != std::string::npos;
      ASSERT_EQ(printed.out.find("laggard.quality.shortened") == std::string::npos, whole);
    }
    EXPECT_EQ(longest, 8000U);
  }
}

TEST(OutputLines, Ipv6AndUdp)
{
  detect::Finding finding = sample_finding(detect::Kind::StalledReader);
  finding.socket->tuple = {ipv6("\xfd\x07", 443), ipv6("\xfd\x09", 50021)};
  json line = checked(finding);
  EXPECT_EQ(line["network.type"], "ipv6");
  EXPECT_EQ(line["network.local.address"], "fd00::7");

  finding.socket->transport = model::Transport::Udp;
  finding.socket->state = model::TcpState::Close;
  finding.socket->tuple = {ipv6(std::string_view("\0\0", 2), 4433), {}};
  finding.socket->tuple.peer.address.is_ipv6 = true;
  finding.socket->connected = false;
  line = checked(finding);
  EXPECT_EQ(line["network.transport"], "udp");
  EXPECT_EQ(line["network.local.address"], "::");
  EXPECT_FALSE(line.contains("network.peer.address") || line.contains("network.peer.port") || line.contains("network.community_id"));
  EXPECT_FALSE(line.contains("network.connection.state"));
  EXPECT_NE(line["message"].get<std::string>().find(" *:4433 stalled-reader"), std::string::npos);
  finding.is_group = true;
  finding.count = 3;
  finding.examples = {finding.socket->tuple};
  EXPECT_NE(checked(finding)["message"].get<std::string>().find("3 sockets on *:4433"), std::string::npos);
}

TEST(OutputLines, ASocketOfASnapshot)
{
  const json line = checked(sample_socket());
  EXPECT_EQ(line["event.name"], "laggard.socket");
  EXPECT_EQ(line["laggard.evidence.recv_queue_bytes"], 24677);
  EXPECT_EQ(line["laggard.evidence.send_queue_bytes"], 7);
  EXPECT_EQ(line["laggard.evidence.lag_seconds"], 192.0);
  EXPECT_EQ(line["laggard.evidence.lag_is_lower_bound"], true);
  EXPECT_EQ(line["laggard.evidence.last_read_seconds"], 17.0);
  EXPECT_EQ(line["laggard.socket.cookie"], "9007199254740997");
  EXPECT_FALSE(line.contains("laggard.evidence.eof_seen"));

  output::SocketLine other = sample_socket();
  other.sample.state = model::TcpState::CloseWait;
  other.sample.peer_closed = true;
  EXPECT_FALSE(checked(other).contains("laggard.evidence.eof_seen"));  // older than us, of an old recording
  other.sample.fin_read = true;
  EXPECT_EQ(checked(other)["laggard.evidence.eof_seen"], true);
  std::swap(other.sample.fin_read, other.sample.fin_unread);
  EXPECT_EQ(checked(other)["laggard.evidence.eof_seen"], false);
  other.sample.fin_unread = false;
  other.sample.peer_closed_at = other.sample.time - std::chrono::seconds(61);
  EXPECT_EQ(checked(other)["laggard.evidence.eof_seen"], false);
  EXPECT_EQ(checked(other)["laggard.evidence.half_closed_seconds"], 61.0);
  other.sample.eof_eaten = true;
  EXPECT_FALSE(checked(other).contains("laggard.evidence.eof_seen"));

  other.sample.state = model::TcpState::Listen;
  other.sample.tuple.peer = {};
  other.sample.ack_backlog = 3;
  other.sample.max_ack_backlog = 127;
  other.process = {};
  other.holders.clear();
  const json listener = checked(other);
  EXPECT_EQ(listener["laggard.evidence.accept_queue"], 3);
  EXPECT_EQ(listener["laggard.evidence.accept_queue_limit"], 127);
  EXPECT_FALSE(listener.contains("network.peer.address"));

  for (int state = 1; state <= 11; state++) {
    other.sample.state = static_cast<model::TcpState>(state);
    checked(other);
  }
}

TEST(OutputLines, TheAgentSaysWhatItCanSee)
{
  output::Observer observer = sample_observer();
  const auto started = [&] {
    return checked([&](output::Sink& sink) { return sink.started(observer, sample_time()); });
  };
  json line = started();
  EXPECT_EQ(line["event.name"], "laggard.agent.started");
  EXPECT_EQ(line["severity"], "info");
  EXPECT_EQ(line["os.version"], "6.1.0-31-amd64");
  EXPECT_EQ(line["laggard.quality.hooks"],
            "reads=tp_btf/sock_recv_length sweep=iter/bpf_sk_storage_map memory=off");
  EXPECT_EQ(line["laggard.quality.notes"], json({"memory: iter/task: permission denied"}));
  EXPECT_EQ(line["laggard.quality.missing"], json({"growth of process memory"}));
  EXPECT_FALSE(line.contains("laggard.replay.file"));
  observer.replayed_from = "night.laggard";
  observer.node_name.clear();
  line = started();
  EXPECT_EQ(line["laggard.replay.file"], "night.laggard");
  EXPECT_FALSE(line.contains("k8s.node.name"));

  line = checked([](output::Sink& sink) { return sink.degraded(sample_degraded()); });
  EXPECT_EQ(line["event.name"], "laggard.agent.degraded");
  EXPECT_EQ(line["severity"], "warn");
  EXPECT_EQ(line["laggard.quality.lost_records"], 8);
  EXPECT_EQ(line["laggard.loss.ring_full"], 3);
  EXPECT_EQ(line["laggard.loss.no_storage"], 5);
  EXPECT_EQ(line["laggard.loss.skipped_runs"], 0);
  EXPECT_FALSE(line.contains("laggard.output.dropped_opened"));
}

TEST(OutputLines, DroppedLinesAreCountedInWordsAndNumbers)
{
  output::Degraded degraded{.time = sample_time(), .message = "slow", .lost = {}, .dropped = {.opened = 2, .updated = 3, .degraded = 7}};
  const json line = checked([&](output::Sink& sink) { return sink.degraded(degraded); });
  EXPECT_EQ(line["message"], "slow; 12 lines of output dropped (2 opened, 3 updated, 7 degraded)");
  EXPECT_EQ(line["laggard.output.dropped_opened"], 2);
  EXPECT_EQ(line["laggard.output.dropped_updated"], 3);
  EXPECT_EQ(line["laggard.output.dropped_resolved"], 0);
  EXPECT_EQ(line["laggard.output.dropped_degraded"], 7);
  output::Summary summary = sample_summary();
  summary.dropped.resolved = 1;
  const json end = checked(summary);
  EXPECT_EQ(end["laggard.output.dropped_resolved"], 1);
  EXPECT_EQ(end["laggard.agent.incomplete"], false);
  EXPECT_THAT(end["message"].get<std::string>(), testing::HasSubstr(", 1 line of output dropped (1 resolved)"));
}

TEST(OutputLines, TimeWithoutALookIsCounted)
{
  const json line = checked([&](output::Sink& sink) {
    return sink.degraded({.time = sample_time(), .message = "nothing was looked at", .lost = {}, .dropped = {}, .unobserved = 12250ms});
  });
  EXPECT_EQ(line["laggard.loss.unobserved_seconds"], 12.25);
  output::Summary summary = sample_summary();
  EXPECT_FALSE(checked(summary).contains("laggard.loss.unobserved_seconds"));
  summary.unobserved = 12250ms;
  const json end = checked(summary);
  EXPECT_EQ(end["laggard.loss.unobserved_seconds"], 12.25);
  EXPECT_THAT(end["message"].get<std::string>(), testing::HasSubstr(", nothing looked at for 12 s"));
  detect::Finding finding = sample_finding();
  finding.quality.unobserved = 3s;
  EXPECT_EQ(checked(finding)["laggard.quality.unobserved_seconds"], 3.0);
}

TEST(OutputLines, NothingFoundAndCouldNotLookDiffer)
{
  output::Summary summary = sample_summary();
  const json quiet = checked(summary);
  EXPECT_EQ(quiet["event.name"], "laggard.agent.stopped");
  EXPECT_EQ(quiet["laggard.agent.incomplete"], false);
  EXPECT_EQ(quiet["laggard.agent.observed_seconds"], 31.0);
  EXPECT_EQ(quiet["laggard.agent.sockets_tracked"], 1237);
  EXPECT_EQ(quiet["laggard.agent.stop_reason"], "duration reached");
  EXPECT_TRUE(quiet["message"].get<std::string>().starts_with("nothing found in 31 s"));
  summary.incomplete = true;
  const json blind = checked(summary);
  EXPECT_EQ(blind["laggard.agent.incomplete"], true);
  EXPECT_EQ(blind["message"].get<std::string>().find("nothing found"), std::string::npos);
  summary.findings_opened = 2;
  summary.lost.ring_full = 3;
  EXPECT_TRUE(checked(summary)["message"].get<std::string>().starts_with("could not look at everything"));
  EXPECT_EQ(checked(summary)["laggard.quality.lost_records"], 3);
}

TEST(OutputStream, OneWritePerLine)
{
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  for (Format format : {Format::Json, Format::Logfmt, Format::Text}) {
    const auto sink = output::make_sink({.format = format, .fd = ends[0]}, sample_observer());
    ASSERT_TRUE(sink->finding(sample_finding()));
    char buffer[9000];
    const ssize_t size = ::recv(ends[1], buffer, sizeof buffer, 0);
    ASSERT_GT(size, 0);
    EXPECT_EQ(buffer[size - 1], '\n');
    EXPECT_EQ(::recv(ends[1], buffer, sizeof buffer, MSG_DONTWAIT), -1);
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(OutputStream, AGoneReaderIsFalse)
{
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  for (Format format : {Format::Json, Format::Logfmt, Format::Text}) {
    const auto sink =
        output::make_sink({.format = format, .fd = ends[1], .diagnostics_fd = ends[1]}, sample_observer());
    // Of text only the findings need a reader.
    EXPECT_EQ(sink->started(sample_observer(), sample_time()), format == Format::Text);
    EXPECT_FALSE(sink->finding(sample_finding()));
    EXPECT_EQ(sink->error(), std::errc::broken_pipe);
    EXPECT_FALSE(sink->socket(sample_socket()));
  }
  ::close(ends[1]);
  const auto full = output::make_sink({.format = Format::Json, .fd = ::open("/dev/full", O_WRONLY)}, sample_observer());
  EXPECT_FALSE(full->finding(sample_finding()));
  EXPECT_EQ(full->error(), std::errc::no_space_on_device);
}

TEST(OutputStream, ASlowReaderOfANonBlockingPipeGetsEverything)
{
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_NONBLOCK), 0);
  ASSERT_GE(::fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
  constexpr int kLines = 211;
  std::thread writer([&] {
    const auto sink = output::make_sink({.format = Format::Json, .fd = ends[1]}, sample_observer());
    for (int i = 0; i < kLines; i++)
      EXPECT_TRUE(sink->finding(sample_finding()));
    ::close(ends[1]);
  });
  ::fcntl(ends[0], F_SETFL, 0);
  std::string text;
  char buffer[1013];
  for (ssize_t size = 1; (size = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(size));
  writer.join();
  ::close(ends[0]);
  const std::vector<std::string> lines = lines_of(text);
  ASSERT_EQ(lines.size(), std::size_t{kLines});
  EXPECT_EQ(std::set<std::string>(lines.begin(), lines.end()).size(), 1U);
}

}  // namespace
}  // namespace laggard::test
