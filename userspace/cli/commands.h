// SPDX-License-Identifier: MIT
// One function per command; the value is the exit code.
#pragma once

#include "cli/options.h"

namespace laggard::cli {

int run_watch(const Options& options);
int run_snapshot(const Options& options);
int run_record(const Options& options);
int run_replay(const Options& options);
int run_explain(const Options& options);
int run_doctor(const Options& options);
int run_health(const Options& options);

}  // namespace laggard::cli
