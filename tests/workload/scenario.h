// SPDX-License-Identifier: MIT
// What the observed process does by itself, between commands.
#pragma once

#include <memory>

#include "world.h"

namespace workload {

class Scenario {
 public:
  virtual ~Scenario() = default;
  virtual void connect(World& world) { world.open(); }
  virtual void start(World&) {}  // returns when the state that defines the scenario stands, or the traffic flows
  virtual int watched(const World&) const { return -1; }            // step() when it is readable ...
  virtual TimePoint wake() const { return TimePoint::max(); }       // ... or at this time
  virtual void step(World&, bool /*readable*/, TimePoint /*now*/) {}
};

std::unique_ptr<Scenario> make_scenario(const Options& options);
std::unique_ptr<Scenario> make_reader(const Options& options);

}  // namespace workload
