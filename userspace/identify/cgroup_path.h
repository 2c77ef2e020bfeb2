// SPDX-License-Identifier: MIT
// Which container, pod or systemd unit a cgroup belongs to, told by its path alone: the forms that kubelet, containerd,
// CRI-O, Docker and podman give it with the systemd and the cgroupfs driver. Pure.
//
// Who may make cgroups may give them any of these names: root, and users below what was delegated to them.
#pragma once

#include <string>
#include <string_view>

namespace laggard::identify {

struct ContainerRef {
  std::string container_id;  // 64 hex digits; empty: in none, or the path does not say
  std::string runtime;       // as Kubernetes names it: "containerd", "cri-o", "docker"; and "podman". Empty: not said
  // A UUID; of a pod from a file on the node (static pod) the 32 hex digits that the kubelet calls it by, which the API
  // server does not know.
  std::string pod_uid;
  // As journald's _SYSTEMD_UNIT: the system's, "user@1000.service" for all of a user's own ones, with its \x2d escapes.
  std::string systemd_unit;  // outside of containers and pods

  bool empty() const { return container_id.empty() && pod_uid.empty() && systemd_unit.empty(); }
  bool operator==(const ContainerRef&) const = default;
};

// Of containers in containers the innermost. Processes that look after a container (conmon) are not in it, but in its
// pod.
ContainerRef parse_cgroup_path(std::string_view path);

struct ProcessCgroups {
  ContainerRef ref;          // of the line that says most
  bool is_relative = false;  // that line leads out of our cgroup namespace ("/../.."): what is above is not to be seen
  std::string v2_path;       // as seen from the root of our cgroup namespace; empty: there is none
};

// The text of /proc/PID/cgroup. On v1 and hybrid hosts it has a line for each hierarchy, and not each runtime uses all.
ProcessCgroups parse_process_cgroups(std::string_view text);

}  // namespace laggard::identify
