// SPDX-License-Identifier: MIT
// Community ID v1, seed 0: the same name for a flow in Zeek, Suricata, tshark and here, from either end.
// https://github.com/corelight/community-id-spec
#pragma once

#include <string>

#include "model/net.h"

namespace laggard::identify {

// "1:" + base64 of SHA-1. Empty for a socket without a peer.
std::string community_id(model::Transport transport, const model::Tuple& tuple);

}  // namespace laggard::identify
