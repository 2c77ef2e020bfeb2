// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_heap_growth(const Context& context, std::vector<Verdict>& verdicts);
void describe_heap_growth(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kHeapGrowth = {Kind::HeapGrowth, nullptr, judge_heap_growth, describe_heap_growth};

}  // namespace laggard::detect
