// SPDX-License-Identifier: MIT
#include "detect/finding.h"

#include <algorithm>

namespace laggard::detect {

std::string_view to_string(Kind kind)
{
  switch (kind) {
#define LAGGARD_KIND_TEXT(name, text) \
  case Kind::name: return text;
    LAGGARD_FINDING_KINDS(LAGGARD_KIND_TEXT)
#undef LAGGARD_KIND_TEXT
  }
  return "unknown";
}

std::string title(Kind kind)
{
  std::string text{to_string(kind)};
  std::ranges::transform(text, text.begin(), [](char c) {
    return c == '-' ? ' ' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return text;
}

std::string_view to_string(Severity severity) { return severity == Severity::Critical ? "critical" : "warning"; }

std::string_view to_string(Phase phase)
{
  switch (phase) {
    case Phase::Opened: return "opened";
    case Phase::Updated: return "updated";
    case Phase::Resolved: return "resolved";
  }
  return "unknown";
}

std::string_view to_string(Resolution resolution)
{
  switch (resolution) {
    case Resolution::Drained: return "drained";
    case Resolution::Closed: return "closed";
    case Resolution::ProcessExited: return "process_exited";
    case Resolution::Subsided: return "subsided";
    case Resolution::ObserverStopped: return "observer_stopped";
    case Resolution::LostSight: return "lost_sight";
    case Resolution::Regrouped: return "regrouped";
  }
  return "unknown";
}

std::string known_kinds()
{
  std::string text;
#define LAGGARD_KIND_LIST(name, kebab) text += text.empty() ? kebab : " " kebab;
  LAGGARD_FINDING_KINDS(LAGGARD_KIND_LIST)
#undef LAGGARD_KIND_LIST
  return text;
}

std::optional<Kind> parse_kind(std::string_view text)
{
#define LAGGARD_KIND_PARSE(name, kebab) \
  if (text == kebab)                    \
    return Kind::name;
  LAGGARD_FINDING_KINDS(LAGGARD_KIND_PARSE)
#undef LAGGARD_KIND_PARSE
  return std::nullopt;
}

}  // namespace laggard::detect
