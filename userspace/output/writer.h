// SPDX-License-Identifier: MIT
// write(2) as sinks need it: whole, to whatever stdout is, and not for ever once laggard has been asked to stop.
#pragma once

#include <string_view>

namespace laggard::output {

class Writer {
 public:
  // Once `fd` is readable, a reader that does not read is waited for a second, and after that no more. Not owned.
  void give_up_when(int fd) { stop_fd_ = fd; }
  // 0 or errno; EINTR: gave up. In one write(2) where the kernel takes it all, which pipes do up to PIPE_BUF and files
  // always.
  int write(int fd, std::string_view bytes);

 private:
  int wait_for_reader(int fd);

  int stop_fd_ = -1;
  bool waited_in_vain_ = false;
};

}  // namespace laggard::output
