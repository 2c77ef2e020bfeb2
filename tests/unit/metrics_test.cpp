// SPDX-License-Identifier: MIT
#include "output/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "output/metrics_endpoint.h"
#include "output/metrics_publisher.h"
#include "support/temporary_root.h"

namespace laggard::output {
namespace {

using detect::Kind;
using detect::Phase;
using detect::Resolution;
using detect::Severity;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// "name{labels} value" as it stands on the page.
testing::Matcher<std::string> says(const std::string& line) { return HasSubstr("\n" + line + "\n"); }

detect::Finding finding(std::uint64_t id, Phase phase, Severity severity = Severity::Warning, Kind kind = Kind::SlowReader)
{
  detect::Finding finding;
  finding.id = id;
  finding.kind = kind;
  finding.severity = severity;
  finding.phase = phase;
  if (phase == Phase::Resolved)
    finding.resolution = Resolution::Drained;
  return finding;
}

detect::Finding in_namespace(const std::string& k8s_namespace, detect::Finding finding)
{
  finding.process.workload.k8s_namespace_name = k8s_namespace;
  return finding;
}

void tell(Metrics& metrics, const model::Tick& tick, model::Model& model)
{
  metrics.records(tick);
  model.apply(tick);
  metrics.tick(model);
}

TEST(Metrics, EverythingThatCanHappenIsThereFromZeroOn)
{
  const std::string page = Metrics{{}}.text({});
  for (const char* kind : {"slow-reader", "stalled-reader", "user-space-buffering", "close-wait", "fin-wait-2", "udp-receive-overflow",
                           "remote-slow-reader", "accept-backlog", "connection-leak", "heap-growth", "unpaired-operations"})
    for (const std::string severity : {"warning", "critical"}) {
      const std::string labels = "{kind=\"" + std::string(kind) + "\",severity=\"" + severity + "\"} 0";
      EXPECT_THAT(page, AllOf(says("laggard_findings_open" + labels), says("laggard_findings_opened_total" + labels)));
    }
  EXPECT_THAT(page, AllOf(says("laggard_findings_resolved_total{kind=\"slow-reader\",resolution=\"process_exited\"} 0"),
                          says("laggard_lost_total{cause=\"ring_full\"} 0"), says("laggard_sockets_tracked{transport=\"udp\"} 0"),
                          says("laggard_ticks_total 0"), says("laggard_degraded_total 0"),
                          says("laggard_output_waiting_lines 0"), says("laggard_output_dropped_total{phase=\"opened\"} 0")));
}

TEST(Metrics, WhatTheOutputDoesNotTakeIsCounted)
{
  Metrics metrics{{}};
  metrics.output(13, {.opened = 2, .updated = 3, .resolved = 5, .degraded = 7});
  EXPECT_THAT(metrics.text({}),
              AllOf(says("laggard_output_waiting_lines 13"), says("laggard_output_dropped_total{phase=\"opened\"} 2"),
                    says("laggard_output_dropped_total{phase=\"updated\"} 3"), says("laggard_output_dropped_total{phase=\"resolved\"} 5"),
                    says("laggard_output_dropped_total{phase=\"degraded\"} 7")));
}

TEST(Metrics, AFindingIsOpenUntilItIsResolved)
{
  Metrics metrics{{}};
  metrics.finding(finding(7, Phase::Opened));
  metrics.finding(finding(11, Phase::Opened));
  metrics.finding(finding(7, Phase::Updated));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\"} 2"),
                                      says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"warning\"} 2")));
  metrics.finding(finding(7, Phase::Resolved));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\"} 1"),
                                      says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"warning\"} 2"),
                                      says("laggard_findings_resolved_total{kind=\"slow-reader\",resolution=\"drained\"} 1")));
}

TEST(Metrics, AFindingThatBecomesCriticalIsOpenAsThatOnly)
{
  Metrics metrics{{}};
  metrics.finding(finding(7, Phase::Opened));
  metrics.finding(finding(7, Phase::Updated, Severity::Critical));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\"} 0"),
                                      says("laggard_findings_open{kind=\"slow-reader\",severity=\"critical\"} 1"),
                                      says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"warning\"} 1"),
                                      says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"critical\"} 1")));
  metrics.finding(finding(7, Phase::Resolved, Severity::Critical));
  EXPECT_THAT(metrics.text({}), says("laggard_findings_open{kind=\"slow-reader\",severity=\"critical\"} 0"));
}

TEST(Metrics, NamespacesAreToldApartUpToAHundred)
{
  Metrics metrics{{}};
  for (std::uint64_t i = 1; i <= 103; i++)
    metrics.finding(in_namespace("team-" + std::to_string(i), finding(i, Phase::Opened)));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\",k8s_namespace_name=\"team-100\"} 1"),
                                      says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"warning\",k8s_namespace_name=\"other\"} 3"),
                                      says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\"} 0"), Not(HasSubstr("team-101"))));
  metrics.finding(in_namespace("team-103", finding(103, Phase::Resolved)));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\",k8s_namespace_name=\"other\"} 2"),
                                      says("laggard_findings_resolved_total{kind=\"slow-reader\",resolution=\"drained\",k8s_namespace_name=\"other\"} 1")));
}

TEST(Metrics, ANamespaceStartsFromZeroSoThatItsFirstFindingIsAnIncrease)
{
  Metrics metrics{{}};
  model::Model model{{}};
  model::Tick tick;
  tick.workloads.resize(1);
  tick.workloads[0].workload.k8s_namespace_name = "shop";
  tell(metrics, tick, model);
  EXPECT_THAT(metrics.text({}), says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"critical\",k8s_namespace_name=\"shop\"} 0"));
  metrics.finding(in_namespace("shop", finding(7, Phase::Opened, Severity::Critical)));
  tell(metrics, tick, model);
  EXPECT_THAT(metrics.text({}), says("laggard_findings_opened_total{kind=\"slow-reader\",severity=\"critical\",k8s_namespace_name=\"shop\"} 1"));
}

TEST(Metrics, AFindingWhosePodIsKnownLaterIsOpenThereOnly)
{
  Metrics metrics{{}};
  metrics.finding(finding(7, Phase::Opened));
  metrics.finding(in_namespace("shop", finding(7, Phase::Updated)));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\"} 0"),
                                      says("laggard_findings_open{kind=\"slow-reader\",severity=\"warning\",k8s_namespace_name=\"shop\"} 1")));
}

TEST(Metrics, ATickBringsRecordsLossesAndTheCostOfASweep)
{
  Metrics metrics{{}};
  model::Model model{{}};
  model::Tick tick;
  tick.wall_time = WallTime{std::chrono::milliseconds(1'700'000'000'500)};
  tick.lost = {3, 5, 7, 11};
  tick.swept = true;
  tick.sockets_visited = 1009;
  tick.sweep_cpu = std::chrono::milliseconds(3);
  tick.gone = {1, 2, 3};
  tell(metrics, tick, model);
  tick.swept = false;  // its cost is not a sweep's
  tick.sockets_visited = 0;
  tick.sweep_cpu = std::chrono::seconds(2);
  tell(metrics, tick, model);
  tick.swept = true;  // longer than the last bound
  tick.sockets_visited = 1013;
  tell(metrics, tick, model);
  EXPECT_THAT(metrics.text({}),
              AllOf(says("laggard_ticks_total 3"), says("laggard_last_tick_timestamp_seconds 1700000000.5"),
                    says("laggard_lost_total{cause=\"ring_full\"} 3"), says("laggard_lost_total{cause=\"no_storage\"} 5"),
                    says("laggard_lost_total{cause=\"no_totals\"} 7"), says("laggard_lost_total{cause=\"skipped_runs\"} 11"),
                    says("laggard_records_total{record=\"gone\"} 9"), says("laggard_sweep_sockets 1013")));
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_sweep_duration_seconds_bucket{le=\"0.0025\"} 0"),
                                      says("laggard_sweep_duration_seconds_bucket{le=\"0.005\"} 1"),
                                      says("laggard_sweep_duration_seconds_bucket{le=\"1\"} 1"),
                                      says("laggard_sweep_duration_seconds_bucket{le=\"+Inf\"} 2"),
                                      says("laggard_sweep_duration_seconds_count 2"), says("laggard_sweep_duration_seconds_sum 2.003")));
}

TEST(Metrics, TrackedSocketsAreThoseOfTheModel)
{
  Metrics metrics{{}};
  model::Model model{{}};
  model::Tick tick;
  tick.time = mono_time(1'000'000'000);
  for (const std::uint64_t cookie : {17U, 19U, 23U}) {
    model::FullSample sample;
    sample.cookie = cookie;
    sample.time = tick.time;
    sample.transport = cookie == 23 ? model::Transport::Udp : model::Transport::Tcp;
    sample.state = model::TcpState::Established;
    sample.unread_bytes = 4096;
    sample.rcv_nxt = 4096;
    tick.sockets.push_back(sample);
  }
  tell(metrics, tick, model);
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_sockets_tracked{transport=\"tcp\"} 2"), says("laggard_sockets_tracked{transport=\"udp\"} 1"),
                                      says("laggard_records_total{record=\"socket\"} 3")));
}

TEST(Metrics, ProgramsAreThereOnceTheKernelCountsThem)
{
  Metrics metrics{{}};
  metrics.programs({{"reads", 0, {}}});
  EXPECT_THAT(metrics.text({}), Not(HasSubstr("laggard_bpf")));
  metrics.programs({{"reads", 101, std::chrono::milliseconds(250)}, {"sweep", 0, {}}});
  EXPECT_THAT(metrics.text({}), AllOf(says("laggard_bpf_runs_total{program=\"reads\"} 101"), says("laggard_bpf_runs_total{program=\"sweep\"} 0"),
                                      says("laggard_bpf_run_seconds_total{program=\"reads\"} 0.25")));
}

TEST(Metrics, HooksAreNamedAndSoIsTheirAbsence)
{
  model::Observer observer;
  observer.version = "1.2.3";
  observer.hooks = {{"reads", "tp_btf/sock_recv_length", {}}, {"growth", "", "not here"}};
  EXPECT_THAT(Metrics{observer}.text({}), AllOf(HasSubstr("laggard_build_info{version=\"1.2.3\"} 1\n"),
                                                says("laggard_hook_info{feed=\"reads\",hook=\"tp_btf/sock_recv_length\"} 1"),
                                                says("laggard_hook_info{feed=\"growth\",hook=\"off\"} 1")));
}

TEST(Metrics, TheProcessTellsOfItself)
{
  EXPECT_THAT(Metrics{{}}.text({1'700'000'000.25, 1.5, 23 << 20, 41}),
              AllOf(says("process_start_time_seconds 1700000000.25"), says("process_cpu_seconds_total 1.5"),
                    says("process_resident_memory_bytes 24117248"), says("process_open_fds 41")));
}

TEST(Metrics, NodeExporterHasAProcessOfItsOwn)
{
  const std::string page = Metrics{{}}.text({0, 1.5, 0, 0}, Metrics::Reader::NodeExporter);
  EXPECT_THAT(page, AllOf(says("laggard_process_cpu_seconds_total 1.5"), Not(HasSubstr("\nprocess_"))));
}

TEST(ListenAddress, IsLoopbackUnlessItSaysOtherwise)
{
  for (const auto& [text, url] : {std::pair{"0", "http://127.0.0.1:"}, {":0", "http://127.0.0.1:"}, {"localhost:0", "http://127.0.0.1:"},
                                  {"127.0.0.1:0", "http://127.0.0.1:"}, {"0.0.0.0:0", "http://0.0.0.0:"}, {"[::1]:0", "http://[::1]:"}}) {
    const auto address = parse_listen_address(text);
    ASSERT_TRUE(address) << text;
    const auto endpoint = MetricsEndpoint::listen(*address);
    if (!endpoint && address->address.ss_family == AF_INET6)
      continue;  // a host without IPv6
    ASSERT_TRUE(endpoint) << endpoint.error().message();
    EXPECT_THAT(endpoint->url(), AllOf(testing::StartsWith(url), testing::EndsWith("/metrics"), Not(HasSubstr(":0/")))) << text;
  }
  for (const char* text : {"", ":", "65536", "-1", "http", "::1:9464", "example.org:9464", "127.0.0.1", "127.0.0.1:", "1.2.3.4.5:1", "9464 ",
                           "[::1]", "127.0.0.1:94640"})
    EXPECT_FALSE(parse_listen_address(text)) << text;
}

TEST(ListenAddress, APortThatIsTakenIsSaid)
{
  const auto first = MetricsEndpoint::listen(*parse_listen_address("0"));
  ASSERT_TRUE(first);
  const std::string url = first->url();
  const std::string port = url.substr(url.rfind(':') + 1, url.rfind('/') - url.rfind(':') - 1);
  const auto second = MetricsEndpoint::listen(*parse_listen_address(port));
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), AllOf(HasSubstr("--metrics " + port), HasSubstr("Address already in use")));
}

// What the endpoint says to a client that sends this and nothing more.
std::string answer_to(const std::string& request)
{
  auto endpoint = MetricsEndpoint::listen(*parse_listen_address("0"));
  EXPECT_TRUE(endpoint);
  const std::string url = endpoint->url();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const Fd wake{::eventfd(0, EFD_CLOEXEC)};
  std::thread server{[&] {
    endpoint->serve(wake.get(), std::chrono::minutes(1), [] { return std::make_shared<const std::string>("x 1\n"); });
  }};
  const Fd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::send(client.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  ::shutdown(client.get(), SHUT_WR);
  std::string answer;
  std::array<char, 4096> bytes{};
  for (ssize_t got = 0; (got = ::recv(client.get(), bytes.data(), bytes.size(), 0)) > 0;)
    answer.append(bytes.data(), static_cast<std::size_t>(got));
  ::eventfd_write(wake.get(), 1);
  server.join();
  return answer;
}

TEST(MetricsEndpoint, AnswersTheOneThingItHas)
{
  EXPECT_THAT(answer_to("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
              AllOf(testing::StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
                    HasSubstr("\r\nContent-Length: 4\r\n"), testing::EndsWith("\r\n\r\nx 1\n")));
  EXPECT_THAT(answer_to("GET /metrics?x=y HTTP/1.0\n\n"), testing::EndsWith("\r\n\r\nx 1\n"));
  EXPECT_THAT(answer_to("HEAD /metrics HTTP/1.1\r\n\r\n"),
              AllOf(testing::StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 4\r\n"), testing::EndsWith("\r\n\r\n")));
}

TEST(MetricsEndpoint, AndToEverythingElseThatItHasNot)
{
  for (const auto& [request, status] : std::initializer_list<std::pair<std::string, const char*>>{
           {"GET / HTTP/1.1\r\n\r\n", "404 "}, {"GET /metricsx HTTP/1.1\r\n\r\n", "404 "},
           {"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 "}, {"\r\n\r\n", "400 "}, {"GET /metrics\r\n\r\n", "400 "},
           {"GET  HTTP/1.1\r\n\r\n", "404 "}, {std::string(3, '\0') + "\n\n", "400 "},
           {"GET /metrics HTTP/1.1\r\nX: " + std::string(20'000, 'x'), "431 "}})
    EXPECT_THAT(answer_to(request), testing::StartsWith("HTTP/1.1 " + std::string(status))) << request.substr(0, 40);
  EXPECT_EQ(answer_to("GET /metr"), "");  // and gave up
  EXPECT_EQ(answer_to(""), "");
}

std::string content(const std::string& path)
{
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Textfile, TakesThePlaceOfTheOldOneAndLeavesNothingElse)
{
  const test::TemporaryRoot root;
  const std::string path = root.path() + "/laggard.prom";
  const mode_t before = ::umask(0077);
  ASSERT_TRUE(write_textfile(path, "one\n"));
  ASSERT_TRUE(write_textfile(path, "two\n"));
  ::umask(before);
  EXPECT_EQ(content(path), "two\n");
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(root.path()), {}), 1);
}

TEST(Textfile, WritesThroughNoLinkThatSomebodyLeftThere)
{
  const test::TemporaryRoot root;
  const std::string path = root.path() + "/laggard.prom", precious = root.path() + "/precious";
  std::ofstream(precious) << "keep";
  std::filesystem::create_symlink(precious, path + ".new");
  ASSERT_TRUE(write_textfile(path, "page\n"));
  EXPECT_EQ(content(precious), "keep");
  EXPECT_EQ(content(path), "page\n");
}

TEST(Textfile, SaysWhatItCannotWrite)
{
  const auto written = write_textfile("/no/such/directory/laggard.prom", "page\n");
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message(), AllOf(HasSubstr("/no/such/directory/laggard.prom"), HasSubstr("No such file or directory")));
}

}  // namespace
}  // namespace laggard::output
