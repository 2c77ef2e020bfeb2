// SPDX-License-Identifier: MIT
// Loads and attaches the BPF programs. An object exists exactly while it is loaded and attached.
#pragma once

#include <bpf/libbpf.h>

#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include <laggard/abi/growth.h>  // the skeleton needs its types

#include "laggard.skel.h"
#include "source/live/hook_plan.h"

namespace laggard::source::live {

struct DestroySkeleton {
  void operator()(laggard_bpf* skeleton) const { laggard_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<laggard_bpf, DestroySkeleton>;

// Loads and attaches exactly these programs; those on demand are loaded only. The error is one sentence; the verifier's
// log goes to `log` if given.
Result<Skeleton> load(std::span<const std::string_view> programs, std::span<const std::string_view> on_demand,
                      std::string* log = nullptr);

// Tries every candidate on its own, for real. `log`: what libbpf and the verifier said.
Availability probe(std::span<const Candidate> table, std::string* log = nullptr);

struct Loaded {
  Plan plan;
  Skeleton skeleton;
};
// The best complete plan that works here. `feeds`: only these; empty: all.
Result<Loaded> load_best(const std::map<std::string, std::string>& forced, std::span<const std::string_view> feeds = {});

}  // namespace laggard::source::live
