// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_fin_wait_2(const model::Connection& connection);
void judge_fin_wait_2(const Context& context, std::vector<Verdict>& verdicts);
void describe_fin_wait_2(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kFinWait2{Kind::FinWait2, concerns_fin_wait_2, judge_fin_wait_2, describe_fin_wait_2};

}  // namespace laggard::detect
