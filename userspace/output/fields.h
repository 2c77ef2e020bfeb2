// SPDX-License-Identifier: MIT
// Every event as a flat, ordered list of keys and typed values, for json and logfmt: the one place that knows the schema.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "output/sink.h"

namespace laggard::output {

using FieldValue = std::variant<std::string, std::uint64_t, double, bool, std::vector<std::string>,
                                std::vector<std::uint64_t>>;

struct OutputField {
  std::string_view prefix;  // both are literals; the key is prefix + name
  std::string_view name;
  FieldValue value;
  std::string key() const { return std::string(prefix) + std::string(name); }
};

// No key twice, no NaN, no infinity.
using Fields = std::vector<OutputField>;

Fields started_fields(const Observer& observer, WallTime time);
Fields finding_fields(const Observer& observer, const detect::Finding& finding);
Fields socket_fields(const Observer& observer, const SocketLine& line);
// A line for the whole, one per socket, one per stack.
std::vector<Fields> explanation_fields(const Observer& observer, const Explanation& explanation);
Fields degraded_fields(const Observer& observer, const Degraded& degraded);
Fields stopped_fields(const Observer& observer, const Summary& summary);

// Makes the longest value shorter, never an enumeration, number or id, and says so in the list. False: nothing is left to
// shorten.
bool shorten(Fields& fields);

std::string rfc3339(WallTime time);  // "2026-01-31T23:59:59.000000001Z"

// Without the newline. Appended to `out`.
void render_json(const Fields& fields, std::string& out);
void render_logfmt(const Fields& fields, std::string& out);
void append_number(std::string& out, double value);

}  // namespace laggard::output
