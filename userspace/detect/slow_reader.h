// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_slow_reader(const model::Connection& connection);
void judge_slow_reader(const Context& context, std::vector<Verdict>& verdicts);
void describe_slow_reader(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kSlowReader{Kind::SlowReader, concerns_slow_reader, judge_slow_reader, describe_slow_reader};

}  // namespace laggard::detect
