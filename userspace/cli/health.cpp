// SPDX-License-Identifier: MIT
// For probes (systemd, Kubernetes, a person): does the main loop of the laggard on this host turn? Reads one small file.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/heartbeat.h"
#include "identify/clock.h"
#include "output/escape.h"

namespace laggard::cli {
namespace {

int unhealthy(const std::string& why)
{
  std::fprintf(stderr, "laggard: not healthy: %s\n", output::visible(why).c_str());
  return kUnhealthy;
}

}  // namespace

int run_health(const Options& options)
{
  const std::string path = options.heartbeat.empty() ? kDefaultHeartbeat : options.heartbeat;
  const auto beat = read_beat(path);
  if (!beat)
    return unhealthy(fmt::format("{}; start it with 'laggard watch --heartbeat {}'", beat.error().message(), path));
  if (!*beat)
    return unhealthy(fmt::format("laggard has not looked yet, or has ended, says {}; its log says which", path));
  // Generous: only a loop that is stuck is to be restarted, not one on a busy machine.
  const Duration max_age = options.max_age.value_or(std::max<Duration>(std::chrono::seconds(30), 10 * (*beat)->interval));
  const Duration age = identify::monotonic_now() - (*beat)->time;
  if (age < Duration{})
    return unhealthy(fmt::format("{} is from before this machine was started; start laggard again", path));
  if (age > max_age)
    return unhealthy(fmt::format("the main loop last ticked {} ago, {} is allowed: process {} is gone or stuck; see "
                                 "'cat /proc/{}/stack /proc/{}/wchan', then restart it",
                                 format_duration(age), format_duration(max_age), (*beat)->pid, (*beat)->pid, (*beat)->pid));
  fmt::print("the main loop ticked {} ago (process {})\n", format_duration(age), (*beat)->pid);
  return kObserved;
}

}  // namespace laggard::cli
