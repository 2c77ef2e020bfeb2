// SPDX-License-Identifier: MIT
#include "identify/cgroup_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

namespace laggard::identify {

struct CgroupTree::Walk {
  std::uint64_t wanted = 0;
  std::string path;  // of the group that is being visited
  std::size_t groups = 0;
  bool is_complete = true;
  bool is_found = false;
  ContainerRef result;
};

CgroupTree::CgroupTree(const std::string& root, Clock clock) : clock_(std::move(clock))
{
  for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    const std::string path = mount;
    // Only v2 has this file, and in each group.
    if (!open_below(root, path + "/cgroup.controllers", O_PATH)) continue;
    mount_ = open_below(root, path, O_RDONLY | O_DIRECTORY);
    is_hybrid_ = path.ends_with("unified");
    break;
  }
  struct stat status {};
  if (mount_ && ::fstat(mount_.get(), &status) == 0) {
    root_id_ = status.st_ino;
    device_ = status.st_dev;
  }
}

ContainerRef CgroupTree::read(std::string_view path) const
{
  ContainerRef ref = parse_cgroup_path(path);
  // Where v1 is used beside v2, runtimes place containers in v1 only: in v2 their processes may be left in the
  // runtime's own unit, which would be a lie.
  if (is_hybrid_) ref.systemd_unit.clear();
  return ref;
}

void CgroupTree::learn(std::uint64_t id, const std::string& path)
{
  if (!mount_ || id == 0 || id == root_id_ || !path.starts_with('/') || known_.find(id) != nullptr) return;
  if (path.find("/../") != std::string::npos) return;  // not below the mount
  ContainerRef ref = read(path);
  struct stat status {};
  if (!ref.empty() && ::fstatat(mount_.get(), ("." + path).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
      status.st_ino == id && status.st_dev == device_)
    known_.put(id, std::move(ref));
}

ContainerRef CgroupTree::find(std::uint64_t id)
{
  if (!mount_ || id == 0 || id == root_id_) return {};
  if (const ContainerRef* const known = known_.find(id)) return *known;
  const MonoTime now = clock_();
  if (now < not_before_) return {};
  Walk walk;
  walk.wanted = id;
  visit(walk, mount_.get(), 0);
  if (walk.groups > kFreeGroups) not_before_ = now + kPausePerGroup * static_cast<std::int64_t>(walk.groups);
  // No id is given twice: what is not there now never will be.
  if (walk.is_found || walk.is_complete) known_.put(id, walk.result);
  return walk.result;
}

// Keeps what it comes by: the next question may be about a group that is gone by then.
void CgroupTree::visit(Walk& walk, int directory, std::size_t depth)
{
  std::vector<std::string> groups;
  const bool is_read = visit_entries(directory, [&](std::string_view name, unsigned char type) {
    if (type == DT_DIR || type == DT_UNKNOWN) groups.emplace_back(name);
    return groups.size() < kMaxGroups;
  });
  walk.is_complete = walk.is_complete && is_read;
  for (const std::string& name : groups) {
    if (walk.groups >= kMaxGroups) {
      walk.is_complete = false;
      return;
    }
    const Fd group(::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    // One that is gone meanwhile is as one that never was.
    if (!group && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) continue;
    if (!group || ::fstat(group.get(), &status) != 0) {
      walk.is_complete = false;
      continue;
    }
    if (status.st_dev != device_) continue;
    walk.groups++;
    const std::size_t parent_bytes = walk.path.size();
    walk.path += '/';
    walk.path += name;
    ContainerRef ref = read(walk.path);
    if (status.st_ino == walk.wanted) {
      walk.is_found = true;
      walk.result = ref;
    }
    if (!ref.empty()) known_.put(status.st_ino, std::move(ref));
    if (depth + 1 < kMaxDepth)
      visit(walk, group.get(), depth + 1);
    else
      walk.is_complete = false;
    walk.path.resize(parent_bytes);
  }
}

}  // namespace laggard::identify
