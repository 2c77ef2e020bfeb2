// SPDX-License-Identifier: MIT
// unpaired-operations: operations that a program begins and never completes keep accumulating.
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_unpaired_operations(const Context& context, std::vector<Verdict>& verdicts);
void describe_unpaired_operations(const Context& context, std::span<const Verdict> members, Finding& finding);

// A sentence where one end of a pair piles up and the other is not reached once, of which there is no finding; else empty.
std::string half_seen(const Thresholds& limits, const model::PairSample& sample);

inline constexpr Rule kUnpairedOperations{Kind::UnpairedOperations, nullptr, judge_unpaired_operations, describe_unpaired_operations};

}  // namespace laggard::detect
