// SPDX-License-Identifier: MIT
// Any bytes as a cgroup path, as /proc/PID/cgroup, as names of pods' logs; what is made of them is well-formed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "identify/cgroup_path.h"
#include "identify/pod_names.h"

namespace {

using namespace laggard::identify;

void check(bool holds)
{
  if (!holds)
    __builtin_trap();
}

bool consists_of(std::string_view text, std::string_view allowed)
{
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::string_view kName = "abcdefghijklmnopqrstuvwxyz0123456789-.";
constexpr std::string_view kUnit = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@";

void check_uid(std::string_view uid)
{
  check(uid.size() == 32 || uid.size() == 36);
  check(consists_of(uid, uid.size() == 32 ? kHex : "0123456789abcdef-"));
}

void check_ref(const ContainerRef& ref)
{
  check(ref.container_id.empty() || (ref.container_id.size() == 64 && consists_of(ref.container_id, kHex)));
  check(ref.runtime.empty() || !ref.container_id.empty());
  check(ref.systemd_unit.size() <= 255 && consists_of(ref.systemd_unit, kUnit));
  check(ref.systemd_unit.empty() || (ref.container_id.empty() && ref.pod_uid.empty()));
  if (!ref.pod_uid.empty())
    check_uid(ref.pod_uid);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const ContainerRef ref = parse_cgroup_path(text);
  check_ref(ref);
  const ProcessCgroups cgroups = parse_process_cgroups(text);
  check_ref(cgroups.ref);
  check(cgroups.v2_path.empty() || cgroups.v2_path.front() == '/');
  // One line says what its path says.
  if (text.starts_with('/') && text.find('\n') == std::string_view::npos && !text.ends_with(" (deleted)"))
    check(parse_process_cgroups("0::" + std::string(text)).ref == ref);
  if (const auto pod = parse_pod_directory(text)) {
    check_uid(pod->pod_uid);
    check(consists_of(pod->namespace_name, kName) && consists_of(pod->pod_name, kName));
    check(pod->namespace_name + "_" + pod->pod_name + "_" + pod->pod_uid == text);
  }
  if (const auto link = parse_log_link(text)) {
    const PodContainer& names = link->names;
    check(consists_of(names.namespace_name + names.pod_name + names.container_name, kName));
    check(names.pod_name + "_" + names.namespace_name + "_" + names.container_name + "-" + link->id + ".log" == text);
  }
  return 0;
}
