// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_remote_slow_reader(const model::Connection& connection);
void judge_remote_slow_reader(const Context& context, std::vector<Verdict>& verdicts);
void describe_remote_slow_reader(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kRemoteSlowReader{Kind::RemoteSlowReader, concerns_remote_slow_reader, judge_remote_slow_reader, describe_remote_slow_reader};

}  // namespace laggard::detect
