// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_accept_backlog(const model::Connection& connection);
void judge_accept_backlog(const Context& context, std::vector<Verdict>& verdicts);
void describe_accept_backlog(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kAcceptBacklog{Kind::AcceptBacklog, concerns_accept_backlog, judge_accept_backlog, describe_accept_backlog};

}  // namespace laggard::detect
