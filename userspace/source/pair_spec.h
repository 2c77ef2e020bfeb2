// SPDX-License-Identifier: MIT
// What `--pairs` asks for: where operations of a program begin and end, and what tells one from another (DESIGN 5.5).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace laggard::source {

// One part of an operation's key when a probe fires: an argument, or what the function returns, or eight bytes that one of
// these points to.
struct KeySource {
  static constexpr unsigned kReturned = 0;      // C and C++ only: a probe at the return of a Go function would break its stack
  unsigned argument = 1;                        // the Nth integer argument: by System V in C and C++, by ABIInternal in Go
  std::optional<std::int32_t> dereferenced_at;  // the 8 bytes at this offset from what it points to
};

// Asked when a function returns: "ret < 0", "*(arg1+4784) > 0".
struct Condition {
  enum class Compare : std::uint8_t { Equal, NotEqual, Less, AtMost, More, AtLeast };
  KeySource value;
  bool is_int = false;  // of 32 bits, signed; else of 64
  Compare compare = Compare::Equal;
  std::int64_t than = 0;
};

inline constexpr std::string_view kUsdt = "usdt:";  // "usdt:PROVIDER:NAME" is a USDT probe, and no function

struct ProbeSpec {
  std::string function;         // entry of this symbol, `*` matches anything; or kUsdt with provider and name
  std::vector<KeySource> keys;  // one part or two, as in all probes of the pair
  std::uint32_t line = 0;       // of the file that asks for it
  // Of a begin. `only_if`: it begins when the function returns and all of these hold. `failed`: what began at the entry did not
  // if this holds at the return.
  std::vector<Condition> only_if{};
  std::optional<Condition> failed{};
  bool begins_at_return() const
  {
    return !only_if.empty() || std::ranges::find(keys, KeySource::kReturned, &KeySource::argument) != keys.end();
  }
};

struct PairSpec {
  std::string name;    // [a-z0-9-], at most 31 bytes, unique
  std::string binary;  // an absolute path; or the file name, `*` allowed, of programs and libraries that processes run
  std::vector<ProbeSpec> begins, ends;
  std::vector<ProbeSpec> abandons;  // key of one part: all operations whose first part it is are over (a connection ends)
  bool ignore_repeats = false;  // a begin with a key that is outstanding is no second operation (Go entries may fire twice)
  bool never_inlined = false;   // the functions that end: where none of them is reached, nothing has ended
  bool each = false;            // one that is outstanding for --stall is a finding: they need not accumulate
  std::string what;             // "results", in the plural: what a finding calls operations; empty: operations of 'NAME'
  std::string advice;           // of a finding; empty: the usual
  std::string file;             // or the preset, and the line there: what errors name
  std::uint32_t line = 0;
  std::string origin() const { return file + ":" + std::to_string(line); }
};

}  // namespace laggard::source
