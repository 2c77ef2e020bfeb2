// SPDX-License-Identifier: MIT
// Where a process runs, in words of who operates the host.
#pragma once

#include <string>

namespace laggard::model {

// What is not known is empty; all of it may be. Names are as short and as plain as Kubernetes and systemd want them.
struct Workload {
  std::string container_id;            // container.id
  std::string container_runtime_name;  // container.runtime.name
  std::string k8s_namespace_name;      // k8s.namespace.name
  std::string k8s_pod_name;            // k8s.pod.name
  std::string k8s_pod_uid;             // k8s.pod.uid; of a static pod the kubelet's, see identify/cgroup_path.h
  std::string k8s_container_name;      // k8s.container.name
  std::string systemd_unit;            // laggard.systemd.unit
  std::string command_line;            // process.command_line: any bytes; only where it was asked for (--command-line)

  bool empty() const { return container_id.empty() && k8s_pod_uid.empty() && systemd_unit.empty(); }
  bool operator==(const Workload&) const = default;
};

}  // namespace laggard::model
