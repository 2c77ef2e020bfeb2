// SPDX-License-Identifier: MIT
// unpaired-operations: operations that a program begins and never completes keep accumulating.
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_unpaired_operations(const Context& context, std::vector<Verdict>& verdicts);
void describe_unpaired_operations(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kUnpairedOperations{Kind::UnpairedOperations, judge_unpaired_operations, describe_unpaired_operations};

}  // namespace laggard::detect
