// SPDX-License-Identifier: MIT
// The bundled recordings as raw ticks, to be changed and run through a session, or written and replayed as the command does.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/options.h"
#include "detect/finding.h"
#include "source/recording.h"

namespace laggard::test {

struct Recorded {
  std::string name;
  std::vector<std::string> options;  // of its golden
  source::RecordingHeader header;
  std::vector<source::RawTick> ticks;
};

std::vector<std::filesystem::path> recordings();
Recorded load(const std::filesystem::path& path);

// The records of a tick, the TICK record first.
std::vector<source::RawTick> records_of(const source::RawTick& raw);
source::RawTick joined(const std::vector<source::RawTick>& records);

cli::Options options_of(const Recorded& recorded, const std::vector<std::string>& more = {});

// What a session makes of the ticks.
struct Said {
  std::vector<detect::Finding> findings;
  std::string lines;  // NDJSON
  std::string summary;
  bool incomplete = false;
  int exit_code = -1;
};
Said say(const Recorded& recorded, const cli::Options& options);

// `laggard replay` of the ticks, written to a file.
Said replay_file(const Recorded& recorded, cli::Options options);

}  // namespace laggard::test
