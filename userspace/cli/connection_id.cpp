// SPDX-License-Identifier: MIT
#include "cli/connection_id.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/units.h"
#include "detect/rule.h"
#include "identify/community_id.h"
#include "output/escape.h"

namespace laggard::cli {
namespace {

std::optional<FoundConnection> of_finding(const model::Model& model, std::uint64_t finding_id)
{
  const auto matches = [finding_id](const detect::Subject& subject) {
    return detect::subject_tag(subject) == static_cast<std::uint32_t>(finding_id >> 32);
  };
  for (const detect::Rule& rule : detect::rules()) {
    for (const auto& [cookie, connection] : model.connections())
      if (matches(detect::connection_subject(rule.kind, model, connection)))
        return FoundConnection{cookie, connection.process()};
    for (const auto& [id, process] : model.processes())
      if (matches(detect::process_subject(rule.kind, id)))
        return FoundConnection{0, id};
  }
  return std::nullopt;
}

std::string process_text(const model::Model& model, model::ProcessId id)
{
  const model::Process* process = model.find(id);
  return fmt::format("{}[{}]", process != nullptr ? output::visible(process->latest().comm) : "process", id.tgid);
}

}  // namespace

Result<FoundConnection> find_connection(const model::Model& model, const std::string& id)
{
  if (id.size() == 16 && id.find_first_not_of("0123456789abcdef") == std::string::npos) {
    if (const auto found = of_finding(model, std::stoull(id, nullptr, 16)))
      return *found;
    return failure(fmt::format("no process or connection here fits the finding {}: it may have ended", id));
  }
  const auto cookie = parse_count(id);
  const bool community = id.starts_with("1:");
  if (!cookie && !community)
    return failure(fmt::format("'{}' is no socket cookie, Community ID (1:...) or finding id (16 hexadecimal digits)", id));
  // Both ends of a connection have the same Community ID.
  std::vector<FoundConnection> matches;
  for (const auto& [known, connection] : model.connections()) {
    const model::SocketSample& sample = connection.latest();
    if ((cookie && *cookie == known) || (community && identify::community_id(sample.transport, sample.tuple) == id))
      matches.push_back({known, connection.process()});
  }
  const bool any = !matches.empty();
  std::erase_if(matches, [](const FoundConnection& match) { return !match.process; });
  if (matches.size() == 1)
    return matches.front();
  if (matches.size() > 1) {
    std::ranges::sort(matches, {}, &FoundConnection::cookie);
    std::string ends;
    for (const FoundConnection& match : matches)
      ends += fmt::format("{}{} of {}", ends.empty() ? "" : ", ", match.cookie, process_text(model, match.process));
    return failure(fmt::format("{} is more than one socket here, ask with the cookie of one: {}", id, ends));
  }
  if (any)
    return failure(fmt::format("nobody is known to hold the connection {}", id));
  return failure(fmt::format("there is no connection {}: 'laggard snapshot --all --output json' lists those that exist", id));
}

}  // namespace laggard::cli
