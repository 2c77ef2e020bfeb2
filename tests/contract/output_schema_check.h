// SPDX-License-Identifier: MIT
// Checks a line of JSON output against userspace/output/laggard.schema.json and against what JSON Schema cannot say.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace laggard::test {

class OutputSchema {
 public:
  // Of a file that cannot be read or parsed every line is a violation.
  explicit OutputSchema(const std::string& path = shipped_path());
  static std::string shipped_path();

  // What is wrong with the line, without its newline; empty: nothing. Beyond the schema: timestamp, severity,
  // event.name and message first and in this order, flat, no key twice, no key within another (`host` beside
  // `host.name`), at most 8000 bytes with the newline, UTF-8, no control character or bidirectional override raw.
  std::vector<std::string> check(std::string_view line) const;

  // Of the schema alone. A keyword that this validator does not know is a violation: nothing passes unchecked.
  std::vector<std::string> validate(const nlohmann::json& instance) const;

 private:
  nlohmann::json schema_;
  std::string unreadable_;
};

}  // namespace laggard::test
