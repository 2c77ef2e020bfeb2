// SPDX-License-Identifier: MIT
// What a cgroup v2 is by its id alone, so also when nobody is in it any more: the id is the inode of its directory.
// Reads the mounted hierarchy and needs no capability.
#pragma once

#include <cstdint>
#include <string>

#include "identify/cgroup_path.h"
#include "identify/clock.h"
#include "identify/directory.h"
#include "identify/recent.h"

namespace laggard::identify {

class CgroupTree {
 public:
  static constexpr std::size_t kMaxGroups = 1U << 16;  // read at once
  static constexpr std::size_t kMaxKept = 1U << 13;
  static constexpr std::size_t kMaxDepth = 64;
  static constexpr std::size_t kFreeGroups = 64;        // so few may be read at any time
  static constexpr Duration kPausePerGroup{5'000'000};  // reading one takes about 50 us: a hundredth of a processor

  explicit CgroupTree(const std::string& root = "/", Clock clock = monotonic_now);

  // Empty: the root, or not below the mount, or gone, or (for a while) too soon after the latest look.
  ContainerRef find(std::uint64_t id);
  // A path as a process's v2 line has it, if it is the group `id` indeed: a process may have been moved.
  void learn(std::uint64_t id, const std::string& path);

  bool is_mounted() const { return static_cast<bool>(mount_); }

 private:
  struct Walk;
  ContainerRef read(std::string_view path) const;
  void visit(Walk& walk, int directory, std::size_t depth);

  Clock clock_;
  Fd mount_;
  bool is_hybrid_ = false;
  std::uint64_t root_id_ = 0;
  std::uint64_t device_ = 0;
  Recent<std::uint64_t, ContainerRef> known_{kMaxKept};
  MonoTime not_before_;
};

}  // namespace laggard::identify
