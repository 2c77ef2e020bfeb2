// SPDX-License-Identifier: MIT
#include "identify/pod_names.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <utility>

namespace laggard::identify {
namespace {

constexpr std::string_view kLogSuffix = ".log";
constexpr std::size_t kContainerIdDigits = 64;
constexpr std::size_t kMaxFileNameBytes = 255;
constexpr std::size_t kMaxLabelBytes = 63;     // of RFC 1123: namespaces and containers
constexpr std::size_t kMaxPodNameBytes = 253;  // a subdomain of labels
// As many digits that another container of the pod, the pause container among them, does not begin with them.
constexpr std::size_t kTellingDigits = 8;
constexpr std::size_t kMaxCutLinks = 1024;

bool is_hex(std::string_view text)
{
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_name(std::string_view text, std::size_t max_bytes, bool with_dots)
{
  return !text.empty() && text.size() <= max_bytes && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || (with_dots && c == '.');
  });
}

bool is_label(std::string_view text) { return is_name(text, kMaxLabelBytes, false); }
bool is_pod_name(std::string_view text) { return is_name(text, kMaxPodNameBytes, true); }

// As in the cgroup's path (cgroup_path.h).
bool is_pod_uid(std::string_view text)
{
  if (text.size() == 32) return is_hex(text);
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !is_hex(text.substr(i, 1))) return false;
  return true;
}

// Exactly three parts with "_" between them, which no name has in it.
std::optional<std::array<std::string_view, 3>> three_parts(std::string_view text)
{
  const std::size_t first = text.find('_');
  const std::size_t last = text.rfind('_');
  if (first == last || text.find('_', first + 1) != last) return std::nullopt;
  return std::array{text.substr(0, first), text.substr(first + 1, last - first - 1), text.substr(last + 1)};
}

std::string link_name(const PodContainer& names, const std::string& id)
{
  return fmt::format("{}_{}_{}-{}{}", names.pod_name, names.namespace_name, names.container_name, id, kLogSuffix);
}

bool same_pod(const PodContainer& a, const PodContainer& b)
{
  return a.namespace_name == b.namespace_name && a.pod_name == b.pod_name;
}

std::string_view take_last_component(std::string_view& path)
{
  const std::size_t slash = path.rfind('/');
  const std::string_view last = slash == std::string_view::npos ? path : path.substr(slash + 1);
  path = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
  return last;
}

}  // namespace

std::optional<PodContainer> parse_pod_directory(std::string_view name)
{
  const auto parts = three_parts(name);
  if (!parts || !is_label((*parts)[0]) || !is_pod_name((*parts)[1]) || !is_pod_uid((*parts)[2])) return std::nullopt;
  return PodContainer{std::string((*parts)[0]), std::string((*parts)[1]), std::string((*parts)[2]), {}};
}

std::optional<LogLink> parse_log_link(std::string_view name)
{
  if (!name.ends_with(kLogSuffix)) return std::nullopt;
  name.remove_suffix(kLogSuffix.size());
  if (name.size() < kContainerIdDigits + 1) return std::nullopt;
  const std::string_view id = name.substr(name.size() - kContainerIdDigits);
  name.remove_suffix(kContainerIdDigits);
  if (!is_hex(id) || name.back() != '-') return std::nullopt;
  name.remove_suffix(1);
  const auto parts = three_parts(name);
  if (!parts || !is_pod_name((*parts)[0]) || !is_label((*parts)[1]) || !is_label((*parts)[2])) return std::nullopt;
  return LogLink{{std::string((*parts)[1]), std::string((*parts)[0]), {}, std::string((*parts)[2])}, std::string(id)};
}

PodNames::PodNames(const std::string& root, Clock clock)
    : clock_(std::move(clock)), links_directory_(root, "/var/log/containers"), pods_directory_(root, "/var/log/pods")
{
}

// False: there is no room.
bool PodNames::keep(Entries& entries, const std::string& key, PodContainer names, const std::string& wanted)
{
  if (const auto found = entries.find(key); found != entries.end()) {
    found->second.is_ambiguous = found->second.is_ambiguous || found->second.names != names;
    return true;
  }
  if (entries.size() >= kMaxNames && key != wanted) return false;
  entries.emplace(key, Entry{std::move(names), false});
  return true;
}

void PodNames::read_links(const std::string& wanted, MonoTime now)
{
  links_.clear();
  cut_links_.clear();
  cut_links_read_ = 0;
  bool all = true;
  links_directory_.read(now, [&](std::string_view name) {
    if (auto link = parse_log_link(name))
      all = keep(links_, link->id, std::move(link->names), wanted) && all;
    else if (name.size() == kMaxFileNameBytes && name.ends_with(kLogSuffix) && cut_links_read_ < kMaxCutLinks)
      read_cut_link(name);
  });
  if (!all) links_directory_.was_too_large();
}

void PodNames::read_pods(const std::string& wanted, MonoTime now)
{
  pods_.clear();
  bool all = true;
  pods_directory_.read(now, [&](std::string_view name) {
    if (auto pod = parse_pod_directory(name)) {
      const std::string uid = pod->pod_uid;
      all = keep(pods_, uid, std::move(*pod), wanted) && all;
    }
  });
  if (!all) pods_directory_.was_too_large();
}

void PodNames::read_cut_link(std::string_view name)
{
  cut_links_read_++;
  CutLink link{link_target(std::string(name)), {}};
  if (link.names.container_name.empty()) return;
  const std::string whole = link_name(link.names, "");
  const std::string_view begin = std::string_view(whole).substr(0, whole.size() - kLogSuffix.size());
  if (!name.starts_with(begin)) return;  // also cut within a name: it tells nothing that the pod uid does not
  link.id_begin = name.substr(begin.size(), name.size() - begin.size() - kLogSuffix.size());
  if (link.id_begin.size() < kTellingDigits || !is_hex(link.id_begin)) return;
  const std::string uid = link.names.pod_uid;
  cut_links_[uid].push_back(std::move(link));
}

// Where it leads by its text, whether or not that is there. Empty: not to a pod's log.
PodContainer PodNames::link_target(const std::string& name) const
{
  std::array<char, PATH_MAX> buffer;
  const ssize_t bytes = ::readlinkat(links_directory_.fd(), name.c_str(), buffer.data(), buffer.size());
  if (bytes <= 0) return {};
  std::string_view path(buffer.data(), static_cast<std::size_t>(bytes));
  take_last_component(path);  // <restart>.log
  const std::string_view container = take_last_component(path);
  auto pod = parse_pod_directory(take_last_component(path));
  if (!pod || !is_label(container)) return {};
  pod->container_name = container;
  return *pod;
}

// Without links, folders of the pod tell: one for each container that ever wrote, those that initialize among them.
std::string PodNames::only_container_of(const PodContainer& pod) const
{
  const std::string name = fmt::format("{}_{}_{}", pod.namespace_name, pod.pod_name, pod.pod_uid);
  const Fd folder(::openat(pods_directory_.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  std::string only;
  bool is_one = true;
  if (folder)
    visit_entries(folder.get(), [&](std::string_view entry, unsigned char type) {
      if (!is_label(entry) || (type != DT_DIR && type != DT_UNKNOWN)) return true;
      is_one = only.empty();
      only = entry;
      return is_one;
    });
  return is_one ? only : std::string();
}

PodContainer PodNames::find(const std::string& container_id, const std::string& pod_uid)
{
  const MonoTime now = clock_();
  if (!container_id.empty() && !links_.contains(container_id) && links_directory_.is_due(now))
    read_links(container_id, now);
  PodContainer by_link;
  if (const auto found = links_.find(container_id); found != links_.end() && !found->second.is_ambiguous) {
    by_link = found->second.names;
    const PodContainer target = link_target(link_name(by_link, container_id));
    if (same_pod(target, by_link) && target.container_name == by_link.container_name)
      by_link.pod_uid = target.pod_uid;
    else if (!target.pod_name.empty())
      by_link = {};  // it leads elsewhere: not the kubelet's
  }

  const std::string uid = pod_uid.empty() ? by_link.pod_uid : pod_uid;
  if (!uid.empty() && !pods_.contains(uid) && pods_directory_.is_due(now)) read_pods(uid, now);
  PodContainer by_uid;
  if (const auto found = pods_.find(uid); found != pods_.end() && !found->second.is_ambiguous)
    by_uid = found->second.names;
  const auto cut = cut_links_.find(uid);
  if (by_uid.pod_name.empty() && cut != cut_links_.end()) {
    by_uid = cut->second.front().names;
    by_uid.container_name.clear();
  }

  const bool link_is_of_another = (!by_uid.pod_name.empty() && !same_pod(by_uid, by_link)) ||
                                  (!pod_uid.empty() && !by_link.pod_uid.empty() && by_link.pod_uid != pod_uid);
  PodContainer result = by_link.pod_name.empty() || link_is_of_another ? by_uid : by_link;
  result.pod_uid = uid;
  if (!result.container_name.empty() || result.pod_name.empty() || container_id.empty()) return result;
  if (links_directory_.fd() < 0) {
    result.container_name = only_container_of(result);
  } else if (cut != cut_links_.end()) {
    for (const CutLink& link : cut->second) {
      if (!same_pod(link.names, result) || !container_id.starts_with(link.id_begin)) continue;
      if (!result.container_name.empty() && result.container_name != link.names.container_name) {
        result.container_name.clear();
        break;
      }
      result.container_name = link.names.container_name;
    }
  }
  return result;
}

}  // namespace laggard::identify
