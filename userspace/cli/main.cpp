// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include "cli/commands.h"

namespace laggard::cli {
namespace {

// Whoever starts us with a standard stream closed: what we open next must not get its number, and what was for the stream. Of the
// other direction, so that using it fails as before.
void keep_standard_numbers()
{
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      static_cast<void>(::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY));  // takes the lowest number that is free
}

int run(int argc, char** argv)
{
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
  return kInternalError;
}

// What goes through stdio is written now: sinks write by themselves, and say so themselves.
int finish_output(int exit_code)
{
  const bool had_failed = std::ferror(stdout) != 0;
  if ((std::fflush(stdout) == 0 && !had_failed) || errno == EPIPE)
    return exit_code;
  std::fprintf(stderr, "laggard: cannot write the output: %s\n", std::strerror(errno));
  return exit_code == kObserved ? static_cast<int>(kIncomplete) : exit_code;
}

}  // namespace
}  // namespace laggard::cli

int main(int argc, char** argv)
{
  using namespace laggard::cli;
  keep_standard_numbers();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves is no error: write(2) says EPIPE and we end quietly
  std::signal(SIGXFSZ, SIG_IGN);  // nor is a limit of file size the end: write(2) says EFBIG
  try {
    return finish_output(run(argc, argv));
  } catch (const std::exception& error) {
    if (std::ferror(stdout) != 0)  // fmt::print() throws
      return finish_output(kObserved);
    std::fprintf(stderr, "laggard: internal error: %s\n", error.what());
  }
  return kInternalError;
}
