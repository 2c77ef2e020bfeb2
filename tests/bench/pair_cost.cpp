// SPDX-License-Identifier: MIT
// What one hit of a pair's probe costs the program that is probed: calls of a function that does nothing, alone and as the
// begin and the end of operations. Rounds without probes, with probes that do nothing (what the kernel itself takes for the trap)
// and with ours alternate.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "bench/harness.h"
#include "source/live/live_source.h"

namespace {

using namespace laggard;
using bench::quartile;

constexpr int kCalls = 4'000, kRounds = 30;
constexpr double kBudgetNs = 6'000;  // beside the trap, which takes 10 to 25 us of a virtual machine

}  // namespace

extern "C" {
__attribute__((noinline)) void laggard_bench_begin(std::uint64_t key) { asm volatile("" : : "r"(key)); }
__attribute__((noinline)) void laggard_bench_end(std::uint64_t key) { asm volatile("" : : "r"(key)); }
}

namespace {

// ns per call
double measure()
{
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t i = 1; i <= kCalls / 2; i++) {
    laggard_bench_begin(i);
    laggard_bench_end(i);
  }
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / kCalls;
}

}  // namespace

// With a process that reads its functions.
Result<std::unique_ptr<source::live::PairProbe>> open(const source::PairSpec& spec, std::uint64_t hits_per_second)
{
  auto reader = source::live::ElfReader::start();
  if (!reader)
    return tl::make_unexpected(reader.error());
  return source::live::PairProbe::open({{spec}, hits_per_second, {}}, std::move(*reader));
}

int main()
{
  source::PairSpec spec;
  spec.name = "bench";
  spec.binary = "/proc/self/exe";
  spec.begins = {{"laggard_bench_begin", {{}}, 1}};
  spec.ends = {{"laggard_bench_end", {{}}, 1}};
  spec.file = "bench";
  std::vector<double> alone, idle, probed;
  std::string hook;
  for (int round = 0; round < kRounds; round++) {
    alone.push_back(measure());
    if (auto stopped = open(spec, 0)) {
      measure();  // the first hits fault the probes' pages in
      idle.push_back(measure());
    }
    auto probe = open(spec, 1'000'000'000);
    if (!probe) {
      fmt::print("SKIP: {}\n", probe.error().message());
      return 77;
    }
    for (const std::string& message : (*probe)->take_messages())
      fmt::print(stderr, "{}\n", message);
    hook = (*probe)->hook();
    measure();
    probed.push_back(measure());
    source::RawTick raw;
    (*probe)->collect(MonoTime{std::chrono::seconds(1)}, 1, [](std::uint32_t, std::uint64_t) { return true; }, raw);
    if (raw.empty()) {
      fmt::print("FAILED: no probe was hit\n");
      return 1;
    }
  }
  const double cost = quartile(probed) - quartile(alone), trap = quartile(idle) - quartile(alone);
  fmt::print("pair probe: {:.0f} ns per hit by {}, of which the kernel's trap {:.0f} (lower quartiles of {} rounds of {} calls)\n", cost,
             hook, trap, kRounds, kCalls);
  return cost > 0 && cost - trap <= kBudgetNs ? 0 : 1;
}
