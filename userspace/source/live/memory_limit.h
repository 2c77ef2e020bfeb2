// SPDX-License-Identifier: MIT
// How much memory a process may still take before its cgroup's limit ends it.
#pragma once

#include <cstdint>
#include <string>

namespace laggard::source::live {

struct MemoryRoom {
  std::uint64_t limit_bytes = 0;     // of the cgroup with the least room, the process's own or one above; 0 = none
  std::uint64_t headroom_bytes = 0;  // limit - (usage - file pages but shmem): what the kernel can reclaim does not count
};

// cgroup v2 (memory.max, memory.current, memory.stat) and v1 (memory.limit_in_bytes, ...), which needs no capability. Both
// are looked for below `root`; a process that is gone or a file that cannot be read is "no limit".
MemoryRoom memory_room_of(std::uint32_t tgid, const std::string& root = "");

}  // namespace laggard::source::live
