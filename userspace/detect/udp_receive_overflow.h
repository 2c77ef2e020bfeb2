// SPDX-License-Identifier: MIT
#pragma once

#include "detect/rule.h"

namespace laggard::detect {

void judge_udp_receive_overflow(const Context& context, std::vector<Verdict>& verdicts);
void describe_udp_receive_overflow(const Context& context, std::span<const Verdict> members, Finding& finding);

inline constexpr Rule kUdpReceiveOverflow{Kind::UdpReceiveOverflow, judge_udp_receive_overflow, describe_udp_receive_overflow};

}  // namespace laggard::detect
