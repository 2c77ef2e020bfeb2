// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

bool concerns_udp_receive_overflow(const model::Connection& connection);
void judge_udp_receive_overflow(const Context& context, std::vector<Verdict>& verdicts);
void describe_udp_receive_overflow(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kUdpReceiveOverflow{Kind::UdpReceiveOverflow, concerns_udp_receive_overflow, judge_udp_receive_overflow, describe_udp_receive_overflow};

}  // namespace laggard::detect
