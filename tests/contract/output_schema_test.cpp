// SPDX-License-Identifier: MIT
// The check itself must be able to fail: one valid line, broken in one place at a time.
#include <gtest/gtest.h>

#include "contract/output_samples.h"
#include "contract/output_schema_check.h"

namespace laggard::test {
namespace {

using nlohmann::ordered_json;

class OutputSchemaCheck : public testing::Test {
 protected:
  OutputSchema schema_;
  std::string line_ = lines_of(print({.format = output::Format::Json}, [](output::Sink& sink) {
                                 return sink.finding(sample_group());
                               }).out).front();

  std::vector<std::string> with(const std::string& key, const ordered_json& value) const
  {
    ordered_json line = ordered_json::parse(line_);
    line[key] = value;
    return schema_.check(line.dump());
  }
  std::vector<std::string> without(const std::string& key) const
  {
    ordered_json line = ordered_json::parse(line_);
    EXPECT_EQ(line.erase(key), 1U) << key;
    return schema_.check(line.dump());
  }
};

TEST_F(OutputSchemaCheck, PassesAValidLine) { EXPECT_EQ(schema_.check(line_), std::vector<std::string>{}); }

TEST_F(OutputSchemaCheck, SeesWrongValues)
{
  const std::vector<std::pair<std::string, ordered_json>> wrong = {
      {"timestamp", "2024-02-29T23:59:59Z"},
      {"timestamp", 1709251199},
      {"severity", "warning"},
      {"severity", "info"},
      {"event.name", "laggard.finding.closed"},
      {"event.name", "laggard.agent.stopped"},
      {"message", ""},
      {"laggard.schema.version", "2"},
      {"laggard.finding.id", "7"},
      {"laggard.finding.kind", "slow_reader"},
      {"laggard.finding.sequence", 0},
      {"laggard.finding.sequence", 1.5},
      {"laggard.finding.duration_seconds", nullptr},
      {"laggard.finding.resolution", "drained"},  // not of what is open
      {"laggard.finding.symptom_of", "11"},
      {"laggard.finding.symptom_of", 0x11},
      {"laggard.finding.symptom_of", "000000000000001G"},
      {"laggard.finding.peer_finding", nullptr},
      {"laggard.finding.peer_finding", ordered_json::array({"0000000000000011"})},
      {"laggard.finding.symptoms", "0000000000000011"},
      {"laggard.finding.symptoms", ordered_json::array()},  // absent, then
      {"laggard.finding.symptoms", ordered_json::array({"0000000000000011", 17})},
      {"laggard.finding.symptom", "0000000000000011"},
      {"laggard.incident.id", "0000000000000011"},
      {"laggard.examples", ordered_json::array({"a", "b"})},
      {"laggard.examples", ordered_json::array({"1.1.1.1:1>2.2.2.2:2", "1.1.1.1:1>2.2.2.2:2", "1.1.1.1:1>2.2.2.2:2",
                                                "1.1.1.1:1>2.2.2.2:2", "1.1.1.1:1>2.2.2.2:2", "1.1.1.1:1>2.2.2.2:2"})},
      {"laggard.socket.cookie", 7},
      {"network.local.port", 65536},
      {"network.local.address", "*"},
      {"network.transport", "udp"},  // no close-wait there
      {"laggard.evidence.recv_queue_bytes", "24677"},
      {"laggard.evidence.eof_seen", 1},
      {"laggard.evidence.recv_queue", 7},  // no unit
      {"laggard.threshold.hold", 5},
      {"process.owner", "x"},
      {"process", 7},  // a prefix of process.pid
  };
  for (const auto& [key, value] : wrong)
    EXPECT_FALSE(with(key, value).empty()) << key << " " << value;
}

TEST_F(OutputSchemaCheck, SeesWhatIsMissing)
{
  for (const char* key : {"timestamp", "severity", "event.name", "message", "service.name", "service.version",
                          "laggard.schema.version", "laggard.finding.id", "laggard.finding.start_time",
                          "laggard.finding.advice", "laggard.quality.missing", "laggard.examples", "process.pid",
                          "network.type", "network.connection.state", "network.peer.port", "server.port",
                          "laggard.socket.cookie"})
    EXPECT_FALSE(without(key).empty()) << key;
}

TEST_F(OutputSchemaCheck, SeesWhatASchemaCannotSay)
{
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string line = line_;
    line.replace(line.find(from), from.size(), to);
    return schema_.check(line);
  };
  EXPECT_FALSE(replaced("{\"timestamp\"", "{\"host.name\":\"x\",\"timestamp\"").empty());
  EXPECT_FALSE(replaced("qt-viewer", "\xff").empty());
  EXPECT_FALSE(replaced("qt-viewer", "\x1b[31m").empty());
  EXPECT_FALSE(replaced("qt-viewer", "\x7f").empty());
  EXPECT_FALSE(replaced("qt-viewer", "\xc2\x9b").empty());
  EXPECT_FALSE(replaced("qt-viewer", "\xe2\x80\xae").empty());
  EXPECT_FALSE(replaced("qt-viewer", std::string(8000, 'x')).empty());
  EXPECT_FALSE(replaced("\"process.pid\"", "\"process.pid\":1,\"process.pid\"").empty());
  EXPECT_FALSE(schema_.check(line_ + "}").empty());
  EXPECT_FALSE(schema_.check("").empty());
  EXPECT_TRUE(replaced("qt-viewer", "a\xc2\xa0z").empty());
}

TEST_F(OutputSchemaCheck, AMissingSchemaPassesNothing)
{
  EXPECT_FALSE(OutputSchema("/nonexistent").check(line_).empty());
}

}  // namespace
}  // namespace laggard::test
