// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_stalled_reader(const model::Connection& connection);
void judge_stalled_reader(const Context& context, std::vector<Verdict>& verdicts);
void describe_stalled_reader(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kStalledReader{Kind::StalledReader, concerns_stalled_reader, judge_stalled_reader, describe_stalled_reader};

}  // namespace laggard::detect
