// SPDX-License-Identifier: MIT
// The names under which a person may ask for a connection.
#pragma once

#include <string>

#include "base/result.h"
#include "model/model.h"

namespace laggard::cli {

struct FoundConnection {
  std::uint64_t cookie = 0;  // 0: the finding was about the process
  model::ProcessId process;
};

// `id`: a socket cookie (laggard.socket.cookie), a Community ID ("1:..."), or the id of a finding, also of another run of
// laggard (laggard.finding.id, 16 hexadecimal digits). A Community ID whose both ends are on this host is an error. The error names what was looked for and the next step.
Result<FoundConnection> find_connection(const model::Model& model, const std::string& id);

}  // namespace laggard::cli
