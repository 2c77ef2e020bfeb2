// SPDX-License-Identifier: MIT
// Any bytes as a recording.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "source/recording.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
  using namespace laggard;
  static const int fd = ::memfd_create("recording", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size))
    __builtin_trap();
  auto reader = source::RecordingReader::open(path);
  if (!reader)
    return 0;
  for (;;) {
    auto raw = (*reader)->next();
    if (!raw || !*raw)
      break;
    (void)source::decode(**raw);
  }
  return 0;
}
