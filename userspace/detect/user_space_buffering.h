// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_user_space_buffering(const Context& context, std::vector<Verdict>& verdicts);
void describe_user_space_buffering(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kUserSpaceBuffering{Kind::UserSpaceBuffering, nullptr, judge_user_space_buffering, describe_user_space_buffering};

}  // namespace laggard::detect
