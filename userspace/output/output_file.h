// SPDX-License-Identifier: MIT
// The file that lines are appended to instead of standard output, and its successor after a rotation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::output {

class OutputFile {
 public:
  // Made with mode 0640 where it does not exist, and then given to `owner`, who may open it again. No pipes, no
  // sockets.
  static Result<OutputFile> open(const std::string& path, std::optional<std::uint32_t> owner = {});
  // Opens what the path names now. On failure the former file stays open. fd() is the same number before and after.
  Result<void> reopen();
  int fd() const { return fd_.get(); }

 private:
  OutputFile() = default;

  std::string path_;
  Fd fd_;
};

// Whoever truncates a regular file that `fd` writes (logrotate's copytruncate) finds no hole at its beginning
// afterwards.
void append_always(int fd);

}  // namespace laggard::output
