// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "output/sink.h"

namespace laggard::output {

std::unique_ptr<Sink> make_text_sink(const SinkOptions& options, const Observer& observer);

}  // namespace laggard::output
