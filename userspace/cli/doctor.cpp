// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "source/live/host.h"
#include "source/live/loader.h"
#include "source/live/pair_probe.h"

namespace laggard::cli {
namespace {

using source::live::HostFacts;

// What is missing, and how to get it: one sentence each.
std::vector<std::string> advice(const HostFacts& facts)
{
  std::vector<std::string> sentences;
  if (!facts.has_bpf)
    sentences.push_back("CAP_BPF is missing: run as root, or 'setcap cap_bpf,cap_perfmon=ep' on the binary");
  if (!facts.has_perfmon)
    sentences.push_back("CAP_PERFMON is missing: run as root, or 'setcap cap_bpf,cap_perfmon=ep' on the binary");
  if (!facts.has_btf)
    sentences.push_back("/sys/kernel/btf/vmlinux is missing: boot a kernel with CONFIG_DEBUG_INFO_BTF=y");
  if (facts.lockdown == "confidentiality")
    sentences.push_back("kernel lockdown 'confidentiality' refuses tracing programs: boot with lockdown=integrity or none");
  if (!facts.initial_user_ns)
    sentences.push_back("this is not the initial user namespace: its capabilities do not count for BPF; run laggard outside");
  if (!facts.initial_pid_ns)
    sentences.push_back("this is not the initial pid namespace: the pids printed are the host's; use hostPID for equal ones");
  if (!facts.has_sys_ptrace)
    sentences.push_back("CAP_SYS_PTRACE is missing: executable paths and memory maps of other users stay unknown (optional)");
  return sentences;
}

std::string number_or_unknown(int value) { return value < 0 ? "unknown" : fmt::format("{}", value); }

}  // namespace

int run_doctor(const Options& options)
{
  const HostFacts facts = source::live::host_facts();
  std::string obstacle = source::live::obstacle_to_loading();
  source::live::Availability availability;
  std::string log;
  if (obstacle.empty())
    availability = source::live::probe(source::live::kCandidates, &log);
  auto hooks = options.hooks;
  const auto pairs_hook = hooks.extract("pairs");
  auto plan = source::live::plan(source::live::kCandidates, availability, hooks);
  if (!plan) {
    std::fprintf(stderr, "laggard: %s\n", plan.error().message().c_str());
    return kUsage;
  }
  if (obstacle.empty())
    obstacle = plan->gap;
  const std::vector<std::string> sentences = advice(facts);
  const bool can_observe = obstacle.empty();
  if (can_observe) {
    auto reader = source::live::ElfReader::start();
    const auto pairs = reader ? source::live::PairProbe::open({{}, 0, pairs_hook.empty() ? "" : pairs_hook.mapped()}, std::move(*reader))
                              : tl::make_unexpected(reader.error());
    plan->choices.push_back({"pairs", pairs ? std::string((*pairs)->hook()) : "", pairs ? "" : pairs.error().message()});
  }
  if (options.verbose)
    std::fputs(log.c_str(), stderr);

  if (options.output == OutputChoice::Json || options.output == OutputChoice::Logfmt) {
    nlohmann::ordered_json json = {{"can_observe", can_observe}, {"obstacle", obstacle},         {"kernel", facts.kernel},
                                   {"arch", facts.architecture}, {"btf", facts.has_btf},         {"lockdown", facts.lockdown},
                                   {"uid", facts.uid},           {"capabilities", facts.capabilities},
                                   {"initial_pid_namespace", facts.initial_pid_ns},
                                   {"initial_user_namespace", facts.initial_user_ns},
                                   {"unprivileged_bpf_disabled", facts.unprivileged_bpf_disabled},
                                   {"perf_event_paranoid", facts.perf_event_paranoid},
                                   {"memlock_bytes", facts.memlock_bytes}, {"missing", sentences}};
    for (const model::HookChoice& choice : plan->choices)
      json["hooks"][choice.feed] = can_observe ? choice.hook : "";
    for (const auto& [hook, refusal] : availability)
      json["rungs"][std::string(hook)] = refusal.empty() ? "ok" : refusal;
    fmt::print("{}\n", json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace));
    return can_observe ? kObserved : kCannotObserve;
  }

  fmt::print("laggard {} on kernel {} ({})\n\n", LAGGARD_VERSION, facts.kernel, facts.architecture);
  fmt::print("{}\n\n", can_observe ? "Can observe this host." : "CANNOT OBSERVE: " + obstacle);
  if (can_observe) {
    fmt::print("hook plan\n");
    for (const model::HookChoice& choice : plan->choices)
      fmt::print("  {:<10} {}{}\n", choice.feed, choice.hook, choice.note.empty() ? "" : "\n             " + choice.note);
    fmt::print("\n");
  }
  if (!availability.empty()) {
    fmt::print("tried here\n");
    for (const source::live::Candidate& candidate : source::live::kCandidates) {
      const std::string& refusal = availability[candidate.hook];
      fmt::print("  {:<4} {}{}\n", refusal.empty() ? "ok" : "no", candidate.hook, refusal.empty() ? "" : "\n       " + refusal);
    }
    fmt::print("\n");
  }
  std::string capabilities;
  for (const std::string& capability : facts.capabilities)
    capabilities += (capabilities.empty() ? "" : " ") + capability;
  const bool all = facts.capabilities.size() > 30;
  fmt::print("process\n");
  fmt::print("  uid           {}\n", facts.uid);
  fmt::print("  capabilities  {}\n", all ? fmt::format("{} of them", facts.capabilities.size())
                                     : capabilities.empty() ? "none" : capabilities);
  fmt::print("  needed        bpf {}, perfmon {} (dropped after loading)\n", facts.has_bpf ? "present" : "MISSING",
             facts.has_perfmon ? "present" : "MISSING");
  fmt::print("  optional      sys_ptrace {}, dac_read_search {}\n", facts.has_sys_ptrace ? "present" : "missing",
             facts.has_dac_read_search ? "present" : "missing");
  fmt::print("  namespaces    pid {}, user {}\n", facts.initial_pid_ns ? "initial" : "nested",
             facts.initial_user_ns ? "initial" : "nested");
  fmt::print("  memlock       {}\n\nkernel\n", facts.memlock_bytes == ~0ULL ? "unlimited" : format_bytes(static_cast<double>(facts.memlock_bytes)));
  fmt::print("  BTF           {}\n", facts.has_btf ? "present" : "MISSING");
  fmt::print("  lockdown      {}\n", facts.lockdown.empty() ? "not built in, or not readable" : facts.lockdown);
  if (facts.has_mptcp)
    fmt::print("  MPTCP         on; of its connections neither the window nor retransmissions are seen (no dead-peer), and of those that\n"
               "                waited to be accepted before laggard came only laggard's own network namespace\n");
  fmt::print("  unprivileged_bpf_disabled {}, perf_event_paranoid {}\n",
             number_or_unknown(facts.unprivileged_bpf_disabled), number_or_unknown(facts.perf_event_paranoid));
  if (!sentences.empty()) {
    fmt::print("\nmissing\n");
    for (const std::string& sentence : sentences)
      fmt::print("  - {}\n", sentence);
  }
  return can_observe ? kObserved : kCannotObserve;
}

}  // namespace laggard::cli
