// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

// Does the peer acknowledge nothing any more, as of the last look? Then it neither reads slowly nor closes.
bool is_unanswered(const model::SocketSample& sample);

bool concerns_dead_peer(const model::Connection& connection);
void judge_dead_peer(const Context& context, std::vector<Verdict>& verdicts);
void describe_dead_peer(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kDeadPeer{Kind::DeadPeer, concerns_dead_peer, judge_dead_peer, describe_dead_peer};

}  // namespace laggard::detect
