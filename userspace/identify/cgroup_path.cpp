// SPDX-License-Identifier: MIT
#include "identify/cgroup_path.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace laggard::identify {
namespace {

constexpr std::size_t kContainerIdDigits = 64;
constexpr std::size_t kStaticPodDigits = 32;
constexpr std::size_t kUuidBytes = 36;
constexpr std::size_t kMaxUnitBytes = 255;  // systemd's UNIT_NAME_MAX, without the NUL

struct Runtime {
  std::string_view prefix;  // of "PREFIX-ID.scope", "SLICE:PREFIX:ID"
  std::string_view name;
};
constexpr std::array kRuntimes = {
    Runtime{"cri-containerd", "containerd"},
    Runtime{"nerdctl", "containerd"},
    Runtime{"crio", "cri-o"},
    Runtime{"docker", "docker"},
    Runtime{"libpod", "podman"},
    Runtime{"libpod-payload", "podman"},
};

bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
bool is_hex(std::string_view text) { return !text.empty() && std::ranges::all_of(text, is_hex_digit); }

// The next of the parts that `separator` keeps apart; `rest` is what follows.
std::string_view next_part(std::string_view& rest, char separator)
{
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

bool take_suffix(std::string_view& text, std::string_view suffix)
{
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

// systemd writes what a unit's name may not hold as \xNN, "-" in a slice's name among it.
std::string without_escapes(std::string_view name)
{
  std::string result;
  const auto value = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
  for (std::size_t at = 0; at < name.size(); ++at) {
    if (name.substr(at).starts_with("\\x") && name.size() - at >= 4 && is_hex(name.substr(at + 2, 2))) {
      result += static_cast<char>(value(name[at + 2]) * 16 + value(name[at + 3]));
      at += 3;
    } else {
      result += name[at];
    }
  }
  return result;
}

// "kubepods-burstable-pod<uid>.slice", "pod<uid>", and the first part of "kubepods-pod<uid>.slice:cri-containerd:<id>".
std::string pod_uid_in(std::string_view name)
{
  name = name.substr(0, name.find(':'));
  take_suffix(name, ".slice");
  constexpr std::string_view kPod = "pod";
  const std::size_t at = name.rfind(kPod);  // not that of "kubepods": no uid has these letters
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '-')) return {};
  std::string uid(name.substr(at + kPod.size()));
  if (uid.size() == kStaticPodDigits && is_hex(uid)) return uid;
  if (uid.size() != kUuidBytes) return {};
  std::ranges::replace(uid, '_', '-');
  for (std::size_t i = 0; i < uid.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (is_dash ? uid[i] != '-' : !is_hex_digit(uid[i])) return {};
  }
  return uid;
}

struct Container {
  std::string_view id;
  std::string_view runtime;
};

// "<id>", "docker-<id>.scope", "crio-<id>", "SLICE:cri-containerd:<id>". Not "crio-conmon-<id>.scope", which looks
// after one, and not "<id>.service", with which podman asks it for its health.
Container container_in(std::string_view name, std::string_view parent, bool in_pod)
{
  const bool is_scope = take_suffix(name, ".scope");
  if (name.size() < kContainerIdDigits) return {};
  const std::string_view id = name.substr(name.size() - kContainerIdDigits);
  std::string_view prefix = name.substr(0, name.size() - kContainerIdDigits);
  if (!is_hex(id)) return {};
  if (prefix.empty()) {
    // Without a prefix podman's are pods: /libpod_parent/<pod>/libpod-<id>.
    if (is_scope || parent == "libpod_parent") return {};
    return {id, parent == "docker" ? parent : std::string_view()};
  }
  const char separator = prefix.back();
  prefix.remove_suffix(1);
  if (separator == ':')
    prefix.remove_prefix(prefix.find_last_of(':') + 1);  // npos + 1 == 0
  else if (separator != '-')
    return {};
  const auto* const known = std::ranges::find(kRuntimes, prefix, &Runtime::prefix);
  if (known != kRuntimes.end()) return {id, known->name};
  // A runtime that we do not know; in a pod there is nothing else of that form.
  if (in_pod && !prefix.ends_with("conmon")) return {id, {}};
  return {};
}

// A name that systemd gives to groups of processes which are not slices.
bool is_unit(std::string_view name)
{
  constexpr std::array<std::string_view, 5> kSuffixes = {".service", ".scope", ".socket", ".mount", ".swap"};
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(":-_.\\@").find(c) != std::string_view::npos;
  };
  return name.size() <= kMaxUnitBytes && std::ranges::all_of(name, allowed) &&
         std::ranges::any_of(kSuffixes,
                             [&](auto suffix) { return name.size() > suffix.size() && name.ends_with(suffix); });
}

struct Found {
  ContainerRef ref;
  int containers = 0;  // that are in each other
};

Found read_path(std::string_view path)
{
  Found found;
  ContainerRef& ref = found.ref;
  bool unit_is_decided = false;  // by the first that is no slice, as systemd does it
  std::string parent;
  for (std::string_view rest = path; !rest.empty();) {
    const std::string_view written = next_part(rest, '/');
    if (written.empty() || written == "." || written == "..") continue;
    const std::string name = without_escapes(written);
    if (std::string uid = pod_uid_in(name); !uid.empty()) {
      ref.pod_uid = std::move(uid);
      // Around it is the container that is the node (kind), not one of the pod.
      ref.container_id.clear();
      ref.runtime.clear();
    }
    if (const Container container = container_in(name, parent, !ref.pod_uid.empty()); !container.id.empty()) {
      ref.container_id = container.id;
      ref.runtime = container.runtime;
      found.containers++;
    }
    if (!unit_is_decided && !written.ends_with(".slice")) {
      unit_is_decided = true;
      // It puts a "_" before a name that would be one of the kernel's files.
      if (const std::string_view unit = written.substr(written.starts_with('_') ? 1 : 0); is_unit(unit))
        ref.systemd_unit = unit;
    }
    parent = name;
  }
  if (!ref.container_id.empty() || !ref.pod_uid.empty()) ref.systemd_unit.clear();
  return found;
}

// Of two lines that say as much: which one is the more likely to be kept by whoever placed the process.
int rank_of(std::string_view controllers)
{
  if (controllers.empty()) return 4;  // v2
  if (controllers == "name=systemd") return 3;
  for (std::string_view rest = controllers; !rest.empty();) {
    const std::string_view controller = next_part(rest, ',');
    if (controller == "pids") return 2;
    if (controller == "memory") return 1;
  }
  return 0;
}

}  // namespace

ContainerRef parse_cgroup_path(std::string_view path) { return read_path(path).ref; }

ProcessCgroups parse_process_cgroups(std::string_view text)
{
  ProcessCgroups best;
  using Worth = std::tuple<bool, int, bool, int>;
  Worth best_worth{false, 0, false, -1};
  for (std::string_view rest = text; !rest.empty();) {
    // "0::/path" (v2), "9:cpu,cpuacct:/path", "1:name=systemd:/path"
    std::string_view line = next_part(rest, '\n');
    const std::string_view number = next_part(line, ':');
    const std::string_view controllers = next_part(line, ':');
    if (!line.starts_with('/')) continue;
    take_suffix(line, " (deleted)");
    if (number == "0" && controllers.empty()) best.v2_path = line;
    Found found = read_path(line);
    const Worth worth{!found.ref.pod_uid.empty(), found.containers, !found.ref.systemd_unit.empty(),
                      rank_of(controllers)};
    if (worth <= best_worth) continue;
    best_worth = worth;
    best.is_relative = line == "/.." || line.starts_with("/../");
    best.ref = std::move(found.ref);
  }
  return best;
}

}  // namespace laggard::identify
