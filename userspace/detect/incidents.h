// SPDX-License-Identifier: MIT
// Which open findings are one incident (DESIGN section 3): what follows from what.
//
//   A reader that stands still or lags is the cause of
//     - what its sender on this host suffers: remote-slow-reader of the same connection, memory that fills up behind it;
//     - datagrams that are lost at the same program and endpoint (udp-receive-overflow);
//     - connections of the same program and endpoint that the peer gave up on (close-wait) and that it does not accept
//       (accept-backlog).
//   A listener that nobody serves (accept-backlog) is the cause of its clients' close-wait: what they had with the server
//   before; and of the holder's own, where it has inherited both.
//   A dead peer is the cause of memory that fills up with what is sent to it. So are a leak of connections, of the memory of both
//   ends on this host, and operations that never complete, of their process's.
//   close-wait is otherwise the cause of accept-backlog of the same program and endpoint.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "detect/rule.h"

namespace laggard::detect {

struct OpenFinding {
  const Subject* subject = nullptr;
  std::uint64_t id = 0;
  std::span<const std::uint64_t> members;        // cookies, process_member(); sorted
  std::span<const model::ProcessId> processes;   // that it is about; sorted
};

struct Links {
  std::optional<std::uint64_t> symptom_of;    // the cause
  std::optional<std::uint64_t> peer_finding;  // about the other end of the connection
  std::set<std::uint64_t> symptoms;           // what follows from this one
  bool operator==(const Links&) const = default;
};

// By finding id; a finding that stands alone is not in it. Pure; the order of `open` does not matter.
std::map<std::uint64_t, Links> link_incidents(const model::Model& model, std::span<const OpenFinding> open);

}  // namespace laggard::detect
