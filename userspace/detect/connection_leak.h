// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_connection_leak(const Context& context, std::vector<Verdict>& verdicts);
void describe_connection_leak(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kConnectionLeak{Kind::ConnectionLeak, nullptr, judge_connection_leak, describe_connection_leak};

}  // namespace laggard::detect
