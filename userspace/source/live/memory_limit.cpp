// SPDX-License-Identifier: MIT
#include "source/live/memory_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>

#include "base/units.h"

namespace laggard::source::live {
namespace {

// Page counters say "no limit" with a number near 2^63, in v1; a limit beyond this is none.
constexpr std::uint64_t kNoLimit = 1ULL << 60;

std::optional<std::uint64_t> number_in(const std::string& path)
{
  std::ifstream file{path};
  std::string text;
  if (!(file >> text))
    return std::nullopt;
  const auto value = parse_count(text);  // "max" is none
  return value ? std::optional(*value) : std::nullopt;
}

std::uint64_t stat_in(const std::string& path, const std::string& wanted)
{
  std::ifstream file{path};
  std::string key;
  std::uint64_t value = 0;
  while (file >> key >> value)
    if (key == wanted)
      return value;
  return 0;
}

struct Layout {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* file_pages;  // in memory.stat; with the next
  const char* shmem;       // which no reclaim gives back
};
constexpr Layout kV1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"};
constexpr std::array kV2 = {Layout{"/sys/fs/cgroup", "memory.max", "memory.current", "file", "shmem"},
                            Layout{"/sys/fs/cgroup/unified", "memory.max", "memory.current", "file", "shmem"}};

void look(const std::string& root, const Layout& layout, std::string path, MemoryRoom& least)
{
  for (;;) {
    const std::string directory = root + layout.mount + path + "/";
    const auto limit = number_in(directory + layout.limit);
    const auto usage = number_in(directory + layout.usage);
    if (limit && usage && *limit < kNoLimit) {
      const std::uint64_t shmem = stat_in(directory + "memory.stat", layout.shmem);
      const std::uint64_t cached = stat_in(directory + "memory.stat", layout.file_pages);
      const std::uint64_t reclaimable = cached - std::min(cached, shmem);
      const std::uint64_t used = *usage - std::min(*usage, reclaimable);
      const std::uint64_t headroom = *limit - std::min(*limit, used);
      if (least.limit_bytes == 0 || headroom < least.headroom_bytes)
        least = {*limit, headroom};
    }
    if (path.empty())
      return;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

}  // namespace

MemoryRoom memory_room_of(std::uint32_t tgid, const std::string& root)
{
  MemoryRoom least;
  std::ifstream file{fmt::format("{}/proc/{}/cgroup", root, tgid)};
  for (std::string line; std::getline(file, line);) {
    // "0::/path" (v2) or "9:memory:/path" (v1)
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos)
      continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (path == "/")
      path.clear();
    if (path.starts_with("/.."))  // outside of our cgroup namespace: what lies at that path here is another group
      continue;
    if (controllers == ",,")
      for (const Layout& layout : kV2)
        look(root, layout, path, least);
    else if (controllers.find(",memory,") != std::string::npos)
      look(root, kV1, path, least);
  }
  return least;
}

}  // namespace laggard::source::live
