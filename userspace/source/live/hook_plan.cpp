// SPDX-License-Identifier: MIT
#include "source/live/hook_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace laggard::source::live {

bool Plan::has(std::string_view feed) const
{
  const auto choice = std::ranges::find(choices, feed, &model::HookChoice::feed);
  return choice != choices.end() && !choice->hook.empty();
}

Result<Plan> plan(std::span<const Candidate> table, const Availability& availability,
                  const std::map<std::string, std::string>& forced)
{
  for (const auto& entry : forced)
    if (std::ranges::none_of(table, [&](const Candidate& c) { return c.feed == entry.first && c.hook == entry.second; })) {
      std::string known;
      for (const Candidate& candidate : table)
        known += fmt::format("{}{}={}", known.empty() ? "" : " ", candidate.feed, candidate.hook);
      return failure(fmt::format("there is no hook '{}={}'; known are {}", entry.first, entry.second, known));
    }

  Plan result;
  for (const Candidate& candidate : table) {
    auto choice = std::ranges::find(result.choices, candidate.feed, &model::HookChoice::feed);
    if (choice == result.choices.end())
      choice = result.choices.insert(choice, {std::string(candidate.feed), "", ""});
    if (!choice->hook.empty())
      continue;
    const auto force = forced.find(choice->feed);
    if (force != forced.end() && force->second != candidate.hook)
      continue;
    const auto refused = availability.find(candidate.hook);
    if (refused != availability.end() && !refused->second.empty()) {
      choice->note += fmt::format("{}{}: {}", choice->note.empty() ? "" : "; ", candidate.hook, refused->second);
      continue;
    }
    choice->hook = candidate.hook;
    if (!candidate.note.empty())
      choice->note = candidate.note;
    for (std::string_view program : candidate.programs)
      if (!program.empty())
        (candidate.use == Use::OnDemand ? result.on_demand : result.programs).push_back(program);
  }
  for (const Candidate& candidate : table)
    if (candidate.use == Use::Always && !result.has(candidate.feed) && result.gap.empty())
      result.gap = fmt::format("the feed '{}' has no hook on this kernel: {}", candidate.feed,
                               std::ranges::find(result.choices, candidate.feed, &model::HookChoice::feed)->note);
  return result;
}

}  // namespace laggard::source::live
