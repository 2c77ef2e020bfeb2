// SPDX-License-Identifier: MIT
// What the text output promises to a reader and to the terminal.
#include <gtest/gtest.h>

#include <algorithm>

#include "contract/output_samples.h"
#include "output/escape.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;

std::string text_of(const detect::Finding& finding, output::SinkOptions options = {})
{
  options.format = output::Format::Text;
  const Printed printed = print(options, [&](output::Sink& sink) { return sink.finding(finding); });
  EXPECT_TRUE(printed.ok);
  EXPECT_EQ(printed.diagnostics, "");
  return printed.out;
}

void expect_tame(const std::string& text, std::size_t columns)
{
  for (const std::string& line : lines_of(text)) {
    EXPECT_LE(output::display_width(line), columns) << line;
    for (std::string_view left = line; !left.empty();) {
      const output::CodePoint point = output::decode_utf8(left);
      EXPECT_TRUE(point.valid && !output::is_unprintable(point.value)) << line;
      left.remove_prefix(point.bytes);
    }
  }
}

TEST(OutputText, LooksAsDesigned)
{
  EXPECT_EQ(text_of(sample_finding(), {.columns = 100}),
            "SLOW READER  qt-viewer[4121]  10.0.0.7:52114 ← 10.0.0.9:17725                         open for 42 s\n"
            "  queue never emptied: ≥ 24.1 KiB unread; our window held the sender back 97 % of the time\n"
            "  reads: 450 k/s of 12 B (median); 5.4 MB/s taken, 18 ms behind here, more waits at the sender\n"
            "  → the program takes 12 bytes per call from a queue of 24 KiB: read until EAGAIN, or larger blocks\n");
}

TEST(OutputText, SaysWhereTheProcessRuns)
{
  const auto where = [](model::Workload workload) {
    detect::Finding finding = sample_finding();
    finding.process.workload = std::move(workload);
    return lines_of(text_of(finding)).at(1);
  };
  const std::string id = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
  EXPECT_EQ(where({id, "containerd", "shop", "cart-0", "0f1e2d3c-1111-2222-3333-444455556666", "web", "", ""}), "  in pod shop/cart-0/web");
  EXPECT_EQ(where({id, "", "shop", "cart-0", "", "", "", ""}), "  in pod shop/cart-0, container 27e395e006c7");
  EXPECT_EQ(where({id, "podman", "", "", "", "", "", ""}), "  in container 27e395e006c7");
  EXPECT_EQ(where({"", "", "", "", "", "", "serial-getty@\x1bttyS0.service", ""}), "  in serial-getty@\\x1bttyS0.service");
}

TEST(OutputText, WrapsBetweenWordsAndNeverWithinAQuantity)
{
  EXPECT_EQ(text_of(sample_finding(), {.columns = 80}),
            "SLOW READER  qt-viewer[4121]  10.0.0.7:52114 ← 10.0.0.9:17725      open for 42 s\n"
            "  queue never emptied: ≥ 24.1 KiB unread; our window held the sender back 97 %\n"
            "      of the time\n"
            "  reads: 450 k/s of 12 B (median); 5.4 MB/s taken, 18 ms behind here, more waits\n"
            "      at the sender\n"
            "  → the program takes 12 bytes per call from a queue of 24 KiB: read until\n"
            "    EAGAIN, or larger blocks\n");
  for (unsigned columns = 40; columns < 120; columns++)
    for (const std::string& line : lines_of(text_of(sample_finding(), {.columns = columns}))) {
      EXPECT_FALSE(line.ends_with(" 24.1") || line.ends_with(" 12") || line.ends_with(" 18") || line.ends_with("≥") ||
                   line.ends_with(" 450") || line.ends_with(" 97") || line.ends_with(" 5.4"))
          << columns << ": " << line;
    }
}

TEST(OutputText, StaysWithinTheColumnsWhateverIsInIt)
{
  for (unsigned columns : {0U, 40U, 60U, 80U, 100U, 200U}) {
    const std::size_t limit = columns == 0 ? 80 : std::min(columns, 99U);
    for (const std::string& name : hostile_names()) {
      detect::Finding finding = sample_group();
      finding.process.comm = name;
      finding.process.workload.command_line = name + std::string(1000, 'y');
      finding.details.push_back(name + std::string(300, 'x'));
      finding.advice = name;
      finding.quality.missing.push_back(name);
      finding.socket->tuple = {ipv6("\xfd\x07", 65521), ipv6("\xfd\x09", 65519)};
      for (int i = 1; i < 15; i++)
        finding.socket->tuple.peer.address.bytes[static_cast<std::size_t>(i)] = 0xab;
      for (std::uint32_t pid = 4000000; pid < 4001000; pid++)
        finding.holders.push_back(pid);
      expect_tame(text_of(finding, {.columns = columns}), limit);
      finding.is_group = false;
      finding.phase = detect::Phase::Resolved;
      finding.resolution = detect::Resolution::ObserverStopped;
      finding.start_is_lower_bound = true;
      expect_tame(text_of(finding, {.columns = columns}), limit);
    }
  }
}

TEST(OutputText, EscapesAreVisibleAndUnambiguous)
{
  detect::Finding finding = sample_finding();
  finding.process.comm = "\x1b[1m\n\xff\xe2\x80\xae\\x1b";
  const std::string text = text_of(finding);
  EXPECT_NE(text.find("\\x1b[1m\\x0a\\xff\\u202e\\\\x1b[4121]"), std::string::npos) << text;
  EXPECT_EQ(std::ranges::count(text, '\x1b'), 0);
}

TEST(OutputText, TheCommandLineIsOneLineAndNeverMoreThanAFew)
{
  detect::Finding finding = sample_finding();
  finding.process.workload.command_line = "/usr/bin/viewer --title a\nb\x1b[2J";
  EXPECT_EQ(lines_of(text_of(finding)).at(1), "  started as: /usr/bin/viewer --title a\\x0ab\\x1b[2J");
  const std::size_t usual = lines_of(text_of(finding)).size();
  finding.process.workload.command_line = std::string(1000, 'x');
  EXPECT_LE(lines_of(text_of(finding)).size(), usual + 3);
}

TEST(OutputText, ColorOnlyOnRequest)
{
  detect::Finding finding = sample_finding();
  EXPECT_TRUE(text_of(finding, {.color = true}).starts_with("\x1b[1;33mSLOW READER\x1b[0m  qt-viewer"));
  finding.severity = detect::Severity::Critical;
  EXPECT_TRUE(text_of(finding, {.color = true}).starts_with("\x1b[1;31mSLOW READER\x1b[0m  qt-viewer"));
  EXPECT_NE(text_of(finding).find("critical, open for 42 s\n"), std::string::npos);
}

TEST(OutputText, LowerBoundsResolutionsAndGroups)
{
  detect::Finding finding = sample_group();
  finding.start_is_lower_bound = true;
  finding.holders = {4121, 4127};
  finding.quality.lost_records = 3;
  finding.quality.unobserved = 12s;
  finding.quality.missing.push_back("who holds the socket now was not verified");
  std::string text = text_of(finding);
  EXPECT_NE(text.find("CLOSE WAIT  qt-viewer[4121]  551 connections to 10.0.0.9:80"), std::string::npos) << text;
  EXPECT_NE(text.find("open for ≥ 42 s\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  for example 10.0.0.7:40001, 10.0.0.7:40002, 10.0.0.7:40003,"), std::string::npos) << text;
  EXPECT_NE(text.find("  held by 2 processes: 4121, 4127\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  3 records were lost meanwhile"), std::string::npos) << text;
  EXPECT_NE(text.find("  nothing was looked at for 12 s of that time\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  not visible: who holds the socket now was not verified\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("growth of process memory"), std::string::npos) << "said at the start\n" << text;

  finding.phase = detect::Phase::Resolved;
  finding.resolution = detect::Resolution::ProcessExited;
  finding.duration = 3min + 7s;
  text = text_of(finding, {.ascii = true, .columns = 99});
  EXPECT_EQ(text,
            "CLOSE WAIT  qt-viewer[4121]                                 resolved after >= 3 min: process exited\n"
            "    551 connections to 10.0.0.9:80\n");
}

TEST(OutputText, AsciiHasNoSigns)
{
  const std::string text = text_of(sample_finding(), {.ascii = true});
  EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; })) << text;
  EXPECT_NE(text.find("10.0.0.7:52114 <- 10.0.0.9:17725"), std::string::npos);
  EXPECT_NE(text.find(">= 24.1 KiB"), std::string::npos);
  EXPECT_NE(text.find("  -> the program"), std::string::npos);
}

TEST(OutputText, UdpAndProcessesHaveNoArrow)
{
  detect::Finding finding = sample_finding(detect::Kind::StalledReader);
  finding.socket->transport = model::Transport::Udp;
  finding.socket->tuple = {ipv4({0, 0, 0, 0}, 53), {}};
  finding.process = {};
  EXPECT_TRUE(text_of(finding).starts_with("STALLED READER  unknown process  *:53   ")) << text_of(finding);
  finding = sample_finding(detect::Kind::UserSpaceBuffering);
  EXPECT_TRUE(text_of(finding).starts_with("USER SPACE BUFFERING  qt-viewer[4121]   ")) << text_of(finding);
}

TEST(OutputText, ABlankLineBetweenFindings)
{
  const Printed printed = print({}, [](output::Sink& sink) {
    return sink.started(sample_observer(), sample_time()) && sink.finding(sample_finding()) &&
           sink.degraded(sample_degraded()) && sink.finding(sample_finding()) && sink.stopped(sample_summary());
  });
  const std::vector<std::string> lines = lines_of(printed.out);
  EXPECT_EQ(std::ranges::count(lines, ""), 1);
  EXPECT_TRUE(lines.front().starts_with("SLOW READER"));
  EXPECT_EQ(printed.diagnostics,
            "laggard 0.1.0 watching node-7, kernel 6.1.0-31-amd64: 2 of 3 feeds (memory off);\n"
            "  not visible: growth of process memory\n"
            "laggard: degraded: sockets are swept every 7 s only: --max-cpu; 8 records lost\n"
            "  (3 ring full, 5 no socket storage)\n"
            "laggard: nothing found in 31 s; 1237 sockets, 29 looks; ended: duration reached\n");
}

TEST(OutputText, CouldNotLookIsNotNothingFound)
{
  output::Summary summary = sample_summary();
  summary.incomplete = true;
  summary.lost.ring_full = 7;
  const Printed printed = print({}, [&](output::Sink& sink) { return sink.stopped(summary); });
  EXPECT_EQ(printed.out, "");
  EXPECT_EQ(printed.diagnostics.find("nothing found"), std::string::npos);
  EXPECT_TRUE(printed.diagnostics.starts_with("laggard: could not look at everything")) << printed.diagnostics;
  EXPECT_NE(printed.diagnostics.find("7 records lost"), std::string::npos);
  EXPECT_NE(printed.diagnostics.find("growth of process memory"), std::string::npos);
  EXPECT_LE(lines_of(printed.diagnostics).size(), 3U);
  expect_tame(printed.diagnostics, 80);
}

TEST(OutputText, TheSnapshotIsATableLikeThatOfSs)
{
  output::SocketLine listener = sample_socket();
  listener.sample.state = model::TcpState::Listen;
  listener.sample.tuple = {ipv4({0, 0, 0, 0}, 80), {}};
  listener.sample.ack_backlog = 3;
  listener.sample.max_ack_backlog = 127;
  listener.oldest_unread_at_least.reset();
  listener.holders = {4121, 4127, 4129};
  output::SocketLine udp = sample_socket();
  udp.sample.transport = model::Transport::Udp;
  udp.sample.state = model::TcpState::Close;
  udp.sample.tuple.peer = {};
  udp.process = {};
  output::SocketLine widest = sample_socket();
  widest.sample.state = model::TcpState::FinWait2;
  widest.sample.unread_bytes = 999983;
  widest.sample.tuple = {ipv4({100, 100, 100, 107}, 52114), ipv4({100, 100, 100, 109}, 52115)};
  widest.process.comm = "fifteen-letters";
  widest.process.id.tgid = 4194303;
  widest.oldest_unread_at_least = 999 * 24h + 23h;
  const Printed printed = print({}, [&](output::Sink& sink) {
    return sink.socket(sample_socket()) && sink.socket(listener) && sink.socket(udp) && sink.socket(widest);
  });
  EXPECT_EQ(printed.out,
            "Netid State      Recv-Q Send-Q Local                 Peer                   Oldest Process\n"
            "tcp   ESTAB       24677      7 10.0.0.7:52114        10.0.0.9:17725         ≥3m12s qt-viewer[4121]\n"
            "tcp   LISTEN          3    127 *:80                  *:*                         - qt-view…[4121] +2\n"
            "udp   UNCONN      24677      - 10.0.0.7:52114        *:*                    ≥3m12s -\n"
            "tcp   FIN-WAIT-2 999983      7 100.100.100.107:52114 100.100.100.109:52115 ≥999d23h fiftee…[4194303]\n");
  for (const std::string& name : hostile_names()) {
    widest.process.comm = name;
    expect_tame(print({}, [&](output::Sink& sink) { return sink.socket(widest); }).out, 100);
  }
  widest.process.comm = "\x1b\\x1b";
  const Printed wide = print({.columns = 120}, [&](output::Sink& sink) { return sink.socket(widest); });
  EXPECT_NE(wide.out.find(" \\x1b\\\\x1b[4194303]\n"), std::string::npos) << wide.out;
}

}  // namespace
}  // namespace laggard::test
