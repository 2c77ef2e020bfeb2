// SPDX-License-Identifier: MIT
// What `laggard explain` prints: names in it come out of the symbol tables and paths of programs, which may be anything.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "contract/output_samples.h"
#include "contract/output_schema_check.h"
#include "output/escape.h"

namespace laggard::test {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using output::Explanation;
using output::Format;
using Where = Explanation::Where;

constexpr std::size_t kMaxLineBytes = 8000;

Explanation::Frame frame(const std::string& name)
{
  return {0x7f0000001000, name, 0x11, "/usr/lib/x86_64/" + name, 0x1009, name + ":42"};
}

Explanation sample_explanation()
{
  Explanation explanation;
  explanation.time = sample_time();
  explanation.process = sample_finding().process;
  explanation.observed = 10s;
  explanation.complete = true;
  explanation.memory_bytes = 100'000'007;
  explanation.net_bytes = 9'999'991;
  explanation.total_bytes = 10'000'019;
  explanation.other_bytes = 1'000'003;
  explanation.limit_eta_seconds = 601.5;
  explanation.sockets = {{7, sample_finding().socket, 8'000'009, 1'000'007, true}, {11, std::nullopt, 0, 0, false}};
  explanation.stacks = {{Where::WithinRead, 7, "10.0.0.7:52114 <- 10.0.0.9:17725", 8'000'009, 503, {frame("take"), frame("main")}},
                        {Where::AfterRead, 11, "", 503, 3, {frame("keep")}},
                        {Where::OtherSystemCall, 0, "", 307, 2, {}},
                        {Where::NoSocket, 0, "", 101, 1, {{4093, "", 0, "", 0, ""}, {0, "", 0, "/opt/x", 7, ""}}}};
  explanation.hooks = "reads=tp_btf/sock_recv_length growth=tp_btf/page_fault_user";
  explanation.missing = {"growth of process memory", "who maps shared pages"};
  return explanation;
}

std::vector<std::string> printed(const Explanation& explanation, Format format, unsigned columns = 100)
{
  const Printed out = print({.format = format, .columns = columns}, [&](output::Sink& sink) { return sink.explanation(explanation); });
  EXPECT_TRUE(out.ok);
  EXPECT_EQ(out.diagnostics, "");
  return lines_of(out.out);
}

// In every format; gives the lines as JSON.
std::vector<json> checked(const Explanation& explanation)
{
  static const OutputSchema schema;
  std::vector<json> parsed;
  std::vector<std::vector<std::string>> keys;
  for (const std::string& line : printed(explanation, Format::Json)) {
    for (const std::string& violation : schema.check(line))
      ADD_FAILURE() << violation << "\n" << line.substr(0, 1000);
    EXPECT_LE(line.size() + 1, kMaxLineBytes);
    parsed.push_back(json::parse(line, nullptr, false));
    keys.emplace_back();
    const auto ordered = nlohmann::ordered_json::parse(line, nullptr, false);
    for (const auto& [key, value] : ordered.items())
      keys.back().push_back(key);
  }
  EXPECT_EQ(parsed.size(), 1 + explanation.sockets.size() + explanation.stacks.size());
  std::size_t number = 0;
  const std::vector<std::string> logfmt = printed(explanation, Format::Logfmt);
  EXPECT_EQ(logfmt.size(), parsed.size());
  for (const std::string& line : logfmt) {
    EXPECT_LE(line.size() + 1, kMaxLineBytes);
    std::vector<std::string> names;
    for (const auto& [key, value] : parse_logfmt(line))
      names.push_back(key);
    // One format may have to shorten where the other need not.
    for (auto* list : {&names, &keys.at(number)})
      std::erase(*list, "laggard.quality.shortened");
    EXPECT_EQ(names, keys.at(number));
    number++;
  }
  for (unsigned columns : {40U, 80U, 100U, 200U})
    for (const std::string& line : printed(explanation, Format::Text, columns)) {
      EXPECT_LE(output::display_width(line), std::min(columns, 100U)) << line;
      for (std::string_view left = line; !left.empty();) {
        const output::CodePoint point = output::decode_utf8(left);
        EXPECT_TRUE(point.valid && !output::is_unprintable(point.value)) << line;
        left.remove_prefix(point.bytes);
      }
    }
  return parsed;
}

TEST(Explanations, SayAllOfTheContract)
{
  const std::vector<json> lines = checked(sample_explanation());
  ASSERT_EQ(lines.size(), 7U);
  const json& whole = lines[0];
  EXPECT_EQ(whole["event.name"], "laggard.explanation");
  EXPECT_EQ(whole["process.pid"], 4121);
  EXPECT_EQ(whole["laggard.explanation.duration_seconds"], 10.0);
  EXPECT_EQ(whole["laggard.explanation.complete"], true);
  EXPECT_EQ(whole["laggard.evidence.memory_bytes"], 100'000'007);
  EXPECT_EQ(whole["laggard.evidence.attributed_growth_bytes"], 10'000'019);
  EXPECT_NEAR(whole["laggard.evidence.attributed_ratio"].get<double>(), 0.9, 1e-3);
  EXPECT_EQ(whole["laggard.evidence.memory_limit_eta_seconds"], 601.5);
  EXPECT_EQ(whole["laggard.quality.missing"].size(), 2U);
  EXPECT_EQ(lines[1]["event.name"], "laggard.explanation.socket");
  EXPECT_EQ(lines[1]["laggard.evidence.within_read_bytes"], 8'000'009);
  EXPECT_EQ(lines[1]["laggard.evidence.after_read_bytes"], 1'000'007);
  EXPECT_EQ(lines[1]["network.peer.port"], 17725);
  EXPECT_EQ(lines[2]["laggard.socket.cookie"], "11");
  EXPECT_FALSE(lines[2].contains("network.transport"));
  EXPECT_EQ(lines[3]["event.name"], "laggard.explanation.stack");
  EXPECT_EQ(lines[3]["laggard.stack.where"], "within_read");
  EXPECT_EQ(lines[3]["laggard.stack.samples"], 503);
  EXPECT_EQ(lines[3]["laggard.stack.frames"], json({"take+0x11 (take) at take:42", "main+0x11 (main) at main:42"}));
  EXPECT_EQ(lines[4]["laggard.stack.where"], "after_read");
  EXPECT_EQ(lines[5]["laggard.stack.where"], "other_system_call");
  EXPECT_EQ(lines[5]["laggard.stack.frames"], json::array());
  EXPECT_EQ(lines[6]["laggard.stack.frames"], json({"0xffd", "0x7 (x)"}));
}

TEST(Explanations, NothingToSayIsALineToo)
{
  Explanation explanation;
  explanation.time = sample_time();
  explanation.process = {.id = {4121, 7}, .comm = "", .vpid = 0, .uid = {}, .creation_time = {}, .workload = {}};
  const std::vector<json> lines = checked(explanation);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["laggard.evidence.attributed_ratio"], 0.0);
  EXPECT_EQ(lines[0]["laggard.explanation.complete"], false);
  EXPECT_NE(lines[0]["message"].get<std::string>().find("took no new memory"), std::string::npos);
}

TEST(Explanations, NumbersAreAlwaysNumbers)
{
  Explanation explanation = sample_explanation();
  explanation.net_bytes = -9'999'991;
  explanation.limit_eta_seconds = INFINITY;
  EXPECT_FALSE(checked(explanation).front().contains("laggard.evidence.memory_limit_eta_seconds"));
  explanation.net_bytes = NAN;
  explanation.limit_eta_seconds = NAN;
  checked(explanation);
  // Nothing is left over for what is "other" when growth was lost in between.
  explanation.total_bytes = 7;
  explanation.other_bytes = 7;
  EXPECT_EQ(checked(explanation).front()["laggard.evidence.attributed_ratio"], 0.0);
}

TEST(Explanations, NoSymbolForgesALineOrDrivesATerminal)
{
  for (const std::string& name : hostile_names()) {
    Explanation explanation = sample_explanation();
    explanation.process.comm = name;
    explanation.missing.push_back(name);
    for (Explanation::Stack& stack : explanation.stacks)
      stack.frames = {frame(name), frame("main"), frame(name)};
    for (const json& line : checked(explanation))
      for (char c : line["message"].get<std::string>())
        EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << line;
  }
}

// Templates and closures have such names; a hostile program may have longer ones.
TEST(Explanations, LongNamesFit)
{
  for (const std::string& unit : {std::string("x"), std::string("\x01"), std::string("\xff"), std::string("\xe2\x82\xac"),
                                  std::string("a<b, c> "), std::string("\xf0\x9f\x98\x80"), std::string("\"\\")}) {
    std::string name;
    while (name.size() < 100'000)
      name += unit;
    Explanation explanation = sample_explanation();
    explanation.stacks.resize(1);
    explanation.stacks[0].frames = {frame(name), frame("main")};
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<json> lines = checked(explanation);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s) << unit;
    EXPECT_EQ(lines.back()["laggard.quality.shortened"], true);
    EXPECT_EQ(lines.back()["laggard.stack.where"], "within_read");
    EXPECT_LT(printed(explanation, Format::Text).size(), 100U) << "a page for one name";
  }
}

TEST(Explanations, ManySocketsAndDeepStacksFit)
{
  Explanation explanation = sample_explanation();
  explanation.sockets.assign(40, explanation.sockets.front());
  for (std::size_t i = 0; i < 40; i++)
    explanation.sockets[i].socket->tuple.local.port = static_cast<std::uint16_t>(40'000 + i);
  std::vector<Explanation::Frame> deep;
  for (int i = 0; i < 64; i++)
    deep.push_back(frame("std::__1::function<void (frame_" + std::to_string(i) + std::string(151, 'n') + ")>::operator()"));
  for (Explanation::Stack& stack : explanation.stacks)
    stack.frames = deep;
  const std::vector<json> lines = checked(explanation);
  EXPECT_EQ(lines.size(), 45U);
  // The innermost calls are those that are kept.
  const json& frames = lines.back()["laggard.stack.frames"];
  ASSERT_FALSE(frames.empty());
  EXPECT_NE(frames[0].get<std::string>().find("frame_0n"), std::string::npos);
  EXPECT_EQ(lines.back()["laggard.quality.shortened"], true);
  std::string text;
  for (const std::string& line : printed(explanation, Format::Text))
    text += line + '\n';
  EXPECT_NE(text.find("and 30 more"), std::string::npos);
}

TEST(Explanations, ADeepStackOfLongNamesIsQuick)
{
  Explanation explanation = sample_explanation();
  for (Explanation::Stack& stack : explanation.stacks)
    stack.frames.assign(16, frame(std::string(100'003, '\x01')));
  const auto begin = std::chrono::steady_clock::now();
  checked(explanation);
#ifdef __SANITIZE_ADDRESS__
  constexpr auto kLimit = 100s;
#else
  constexpr auto kLimit = 10s;
#endif
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kLimit);
}

// ---- incidents ----

TEST(Incidents, TheirLinksAreInEveryFormat)
{
  static const OutputSchema schema;
  detect::Finding finding = sample_finding(detect::Kind::AcceptBacklog);
  finding.symptom_of = 0x11;
  finding.symptom_of_text = "STALLED READER redis-cli[411]";
  finding.peer_finding = 0xffffffffffffffff;
  finding.symptoms = {1, 0x8000000000000007, 13};
  for (detect::Phase phase : {detect::Phase::Opened, detect::Phase::Updated, detect::Phase::Resolved}) {
    finding.phase = phase;
    if (phase == detect::Phase::Resolved)
      finding.resolution = detect::Resolution::Closed;
    const Printed out = print({.format = Format::Json}, [&](output::Sink& sink) { return sink.finding(finding); });
    ASSERT_EQ(lines_of(out.out).size(), 1U);
    EXPECT_EQ(schema.check(lines_of(out.out)[0]), std::vector<std::string>{}) << out.out;
    const json line = json::parse(out.out);
    EXPECT_EQ(line["laggard.finding.symptoms"], json({"0000000000000001", "8000000000000007", "000000000000000d"}));
    EXPECT_EQ(line["laggard.finding.symptom_of"], "0000000000000011");
    EXPECT_EQ(line["laggard.finding.peer_finding"], "ffffffffffffffff");
    const Printed logfmt = print({.format = Format::Logfmt}, [&](output::Sink& sink) { return sink.finding(finding); });
    EXPECT_NE(logfmt.out.find("laggard.finding.symptom_of=0000000000000011 "), std::string::npos);
  }
  finding.phase = detect::Phase::Opened;
  finding.resolution.reset();
  const Printed text = print({.columns = 100}, [&](output::Sink& sink) { return sink.finding(finding); });
  EXPECT_EQ(lines_of(text.out).at(1), "  follows from STALLED READER redis-cli[411]");
  // A thousand symptoms are cut, not the line.
  finding.symptoms.assign(997, 7);
  const Printed many = print({.format = Format::Json}, [&](output::Sink& sink) { return sink.finding(finding); });
  EXPECT_EQ(schema.check(lines_of(many.out).at(0)), std::vector<std::string>{});
  EXPECT_FALSE(json::parse(many.out)["laggard.finding.symptoms"].empty());
}

TEST(Incidents, WhatStandsAloneHasNoLinks)
{
  const Printed out = print({.format = Format::Json}, [](output::Sink& sink) { return sink.finding(sample_finding()); });
  const json line = json::parse(out.out);
  for (const char* key : {"laggard.finding.symptoms", "laggard.finding.symptom_of", "laggard.finding.peer_finding"})
    EXPECT_FALSE(line.contains(key)) << key;
  const Printed text = print({.columns = 100}, [](output::Sink& sink) { return sink.finding(sample_finding()); });
  EXPECT_EQ(text.out.find("follows from"), std::string::npos);
}

TEST(Incidents, TheNameOfACauseIsTame)
{
  for (const std::string& name : hostile_names()) {
    detect::Finding finding = sample_finding(detect::Kind::CloseWait);
    finding.symptom_of = 0x11;
    finding.symptom_of_text = "STALLED READER " + name + "[411]";
    const Printed text = print({.columns = 100}, [&](output::Sink& sink) { return sink.finding(finding); });
    for (const std::string& line : lines_of(text.out)) {
      EXPECT_LE(output::display_width(line), 100U);
      EXPECT_TRUE(std::ranges::none_of(line, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) << line;
    }
  }
}

}  // namespace
}  // namespace laggard::test
