// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_close_wait(const model::Connection& connection);
void judge_close_wait(const Context& context, std::vector<Verdict>& verdicts);
void describe_close_wait(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kCloseWait{Kind::CloseWait, concerns_close_wait, judge_close_wait, describe_close_wait};

}  // namespace laggard::detect
