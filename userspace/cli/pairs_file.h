// SPDX-License-Identifier: MIT
// Pairs files (`--pairs`, DESIGN 5.5): TOML to PairSpec, and the presets, which are such files compiled in.
//
//   [[pair]]
//   name = "send"                     # a-z 0-9 -, at most 31 bytes
//   binary = "/usr/lib/libfoo.so.1"   # or a file name, `*` allowed: every program and library of that name that processes run
//   begin = "foo_send"                # the entry of a function, or a list of functions, or "usdt:PROVIDER:NAME"
//   begin_key = "arg2"                # which argument tells one operation from another; "*(arg2+56)": the 8 bytes there;
//                                     # "ret": what the function returns, where NULL begins nothing
//   begin_failed = "ret < 0"          # optional: what the function returns where it refuses; "(long)ret", "ret == NULL"
//   begin_if = "*(arg1+8) > 0"        # optional: begins when the function returns and this holds, or all of a list
//   end = ["foo_complete", {function = "foo_cancel", key = "arg2"}]
//   end_key = "arg1"                  # keys default to "arg1"; ["arg3", "arg1"] is a key of two parts
//   abandon = "foo_close"             # optional: all operations whose first part it has are over
//   abandon_key = "arg1"
//   repeats = "count"                 # or "ignore": a begin whose key is outstanding is no second operation
//   finds = "piles"                   # or "each": one that is outstanding for --stall is enough
//   never_inlined = true              # what ends them is reached if it is called: else nobody is accused before one was
//   what = "sends"                    # optional: what a finding calls them, in the plural
//   advice = "..."                    # optional: what to do
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "source/pair_spec.h"

namespace laggard::cli {

struct PairsParsed {
  std::vector<source::PairSpec> pairs;  // the good ones, in the order of the file
  std::vector<std::string> errors;      // each begins with FILE:LINE, or FILE where it cannot be read
};

// A preset's name, unless there is such a file; else a file.
PairsParsed read_pairs(const std::string& file_or_preset);

// `name` is what errors and PairSpec::file call it.
PairsParsed parse_pairs(std::string_view text, const std::string& name);

// Adds what another file asks for. A pair whose name is taken is refused.
void merge(PairsParsed& into, PairsParsed from);

// How many integer arguments are in registers at the entry of a function: of C and C++, or of Go (ABIInternal).
unsigned max_arguments(bool go);

struct PairPreset {
  const char* name;
  const char* counts;   // what is begun and ends
  const char* tried;    // with which versions
  const char* unseen;   // what it cannot see, and where it is wrong
  const char* cost;     // how often it is hit
  const char* text;     // the file
};
std::span<const PairPreset> pair_presets();
std::string preset_names();  // "msquic, quic-go, go-http"
std::string describe_presets();  // what `--pairs list` prints

}  // namespace laggard::cli
