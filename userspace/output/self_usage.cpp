// SPDX-License-Identifier: MIT
#include "output/self_usage.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace laggard::output {
namespace {

double seconds_of(const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; }

// proc(5): field 22 of /proc/self/stat, in clock ticks since boot, and when that was.
double start_time()
{
  std::ifstream file{"/proc/self/stat"};
  std::string line;
  std::getline(file, line);
  // The name is in brackets and may hold anything; field 3 comes after it.
  std::istringstream fields{line.substr(std::min(line.rfind(')') + 1, line.size()))};
  std::string ignored;
  for (int field = 3; field < 22; field++)
    fields >> ignored;
  double ticks = 0;
  fields >> ticks;

  std::ifstream host{"/proc/stat"};
  double boot = 0;
  for (std::string key; host >> key; std::getline(host, ignored))
    if (key == "btime") {
      host >> boot;
      break;
    }
  return boot + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

SelfUsage self_usage()
{
  static const double started = start_time();
  SelfUsage usage;
  usage.start_time_seconds = started;
  rusage used{};
  if (::getrusage(RUSAGE_SELF, &used) == 0)
    usage.cpu_seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
  std::uint64_t size = 0, resident = 0;
  if (std::ifstream file{"/proc/self/statm"}; file >> size >> resident)
    usage.resident_bytes = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::error_code error;
  std::filesystem::directory_iterator fds{"/proc/self/fd", error};
  if (!error)
    usage.open_fds = static_cast<std::uint64_t>(std::distance(begin(fds), end(fds))) - 1;  // the one that lists them
  return usage;
}

}  // namespace laggard::output
