// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstdio>
#include <exception>

#include "cli/commands.h"

int main(int argc, char** argv)
{
  using namespace laggard::cli;
  std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves is no error: write(2) says EPIPE and we end quietly
  try {
    const Parsed parsed = parse(argc, argv);
    if (!parsed.options) {
      std::fputs(parsed.text.c_str(), parsed.exit_code == kObserved ? stdout : stderr);
      return parsed.exit_code;
    }
    for (const std::string& error : parsed.options->pair_errors)
      std::fprintf(stderr, "laggard: %s\n", error.c_str());
    switch (parsed.options->command) {
      case Command::Watch: return run_watch(*parsed.options);
      case Command::Snapshot: return run_snapshot(*parsed.options);
      case Command::Record: return run_record(*parsed.options);
      case Command::Replay: return run_replay(*parsed.options);
      case Command::Explain: return run_explain(*parsed.options);
      case Command::Doctor: return run_doctor(*parsed.options);
      case Command::Health: return run_health(*parsed.options);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "laggard: internal error: %s\n", error.what());
  }
  return kInternalError;
}
