// SPDX-License-Identifier: MIT
// How a process that is not laggard sees that laggard's main loop turns: a file that says when it last did.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/time.h"

namespace laggard::cli {

// One line, always of the same length: "monotonic_ns 00001234567890123456 interval_ns 00000000001000000000 pid 0000004121".
// CLOCK_MONOTONIC, so that neither a corrected clock nor a suspended machine looks like a loop that is stuck.
struct Beat {
  MonoTime time;
  Duration interval{};
  pid_t pid = 0;
};

class Heartbeat {
 public:
  // Creates or empties the file; it beats first when the loop first turns. No links, no special files.
  static Result<Heartbeat> open(const std::string& path, Duration interval);
  // Needs no privilege any more: it is one small pwrite(2).
  Result<void> beat();
  Heartbeat(Heartbeat&&) = default;
  Heartbeat& operator=(Heartbeat&&) = default;
  // Not killed. The folder may be closed to us by now, so the file stays, empty.
  ~Heartbeat();

 private:
  Heartbeat() = default;

  Fd fd_;
  std::string path_;
  Duration interval_{};
};

// Absent: the loop has not turned yet, or laggard has ended and was not killed. Errors: no such file, or not one of these.
Result<std::optional<Beat>> read_beat(const std::string& path);

}  // namespace laggard::cli
