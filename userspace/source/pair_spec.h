// SPDX-License-Identifier: MIT
// What `--pairs` asks for: where operations of a program begin and end, and what tells one from another (DESIGN 5.5).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace laggard::source {

// One part of an operation's key when a probe fires: an argument, or eight bytes that an argument points to.
struct KeySource {
  unsigned argument = 1;                        // the Nth integer argument: by System V in C and C++, by ABIInternal in Go
  std::optional<std::int32_t> dereferenced_at;  // the 8 bytes at this offset from what the argument points to
};

struct ProbeSpec {
  std::string function;         // entry of this symbol, `*` matches anything; or "usdt:PROVIDER:NAME"
  std::vector<KeySource> keys;  // one part or two, as in all probes of the pair
  std::uint32_t line = 0;       // of the file that asks for it
};

struct PairSpec {
  std::string name;    // [a-z0-9-], at most 31 bytes, unique
  std::string binary;  // an absolute path; or the file name, `*` allowed, of programs and libraries that processes run
  std::vector<ProbeSpec> begins, ends;
  std::vector<ProbeSpec> abandons;  // key of one part: all operations whose first part it is are over (a connection ends)
  bool ignore_repeats = false;  // a begin with a key that is outstanding is no second operation (Go entries may fire twice)
  std::string file;             // or the preset, and the line there: what errors name
  std::uint32_t line = 0;
  std::string origin() const { return file + ":" + std::to_string(line); }
};

}  // namespace laggard::source
