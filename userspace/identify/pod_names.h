// SPDX-License-Identifier: MIT
// The names of pods and containers on a Kubernetes node, from how the kubelet names log files. No server is asked.
//
//   /var/log/containers/<pod>_<namespace>_<container>-<container id>.log, a link to
//   /var/log/pods/<namespace>_<pod>_<pod uid>/<container>/<restart>.log
//
// Pause containers write no logs: they have a pod and no name. Links of containers that are gone do no harm: no id is
// given twice.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "identify/clock.h"
#include "identify/directory.h"

namespace laggard::identify {

struct PodContainer {
  std::string namespace_name;
  std::string pod_name;
  std::string pod_uid;
  std::string container_name;

  bool operator==(const PodContainer&) const = default;
};

// <namespace>_<pod>_<uid>
std::optional<PodContainer> parse_pod_directory(std::string_view name);

struct LogLink {
  PodContainer names;  // without the uid
  std::string id;      // of the container
};
// <pod>_<namespace>_<container>-<id>.log
std::optional<LogLink> parse_log_link(std::string_view name);

class PodNames {
 public:
  static constexpr std::size_t kMaxNames = 1U << 14;  // kept of each directory; the others are read when asked for

  explicit PodNames(const std::string& root = "/", Clock clock = monotonic_now);

  // Either may be empty. What is not known is empty; where the directories contradict each other, the pod uid counts.
  PodContainer find(const std::string& container_id, const std::string& pod_uid);

  // Not one of the directories is there for us.
  bool is_blind() const { return links_directory_.fd() < 0 && pods_directory_.fd() < 0; }

 private:
  struct Entry {
    PodContainer names;
    bool is_ambiguous = false;  // another file says something else
  };
  // A file name has at most 255 bytes: of longer ones the kubelet leaves out the end, and that is the id.
  struct CutLink {
    PodContainer names;
    std::string id_begin;
  };
  using Entries = std::unordered_map<std::string, Entry>;

  static bool keep(Entries& entries, const std::string& key, PodContainer names, const std::string& wanted);
  void read_links(const std::string& wanted, MonoTime now);
  void read_pods(const std::string& wanted, MonoTime now);
  void read_cut_link(std::string_view name);
  PodContainer link_target(const std::string& name) const;
  std::string only_container_of(const PodContainer& pod) const;

  Clock clock_;
  WatchedDirectory links_directory_;
  WatchedDirectory pods_directory_;
  Entries links_;                                                    // by container id
  Entries pods_;                                                     // by pod uid
  std::unordered_map<std::string, std::vector<CutLink>> cut_links_;  // by pod uid
  std::size_t cut_links_read_ = 0;
};

}  // namespace laggard::identify
