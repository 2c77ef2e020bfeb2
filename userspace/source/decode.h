// SPDX-License-Identifier: MIT
// Where the wire format ends: records in, model types out. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/tick.h"

namespace laggard::source {

// The records of one tick, one after the other, the TICK record first (include/laggard/abi/records.h).
using RawTick = std::vector<std::byte>;

// Fails on a stream that is not whole records, does not begin with a TICK record or has a record that is shorter than any that
// was ever written; skips kinds it does not know. A sample is at most half again as large as its record.
Result<model::Tick> decode(std::span<const std::byte> raw);

}  // namespace laggard::source
