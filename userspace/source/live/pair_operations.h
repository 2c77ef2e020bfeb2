// SPDX-License-Identifier: MIT
// What the kernel side knows of operations that have begun and not ended, as PAIR records.
#pragma once

#include <laggard/abi/pairs.h>
#include <laggard/abi/records.h>

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/time.h"
#include "pairs.skel.h"
#include "source/decode.h"
#include "source/live/elf_reader.h"
#include "source/pair_spec.h"

namespace laggard::source::live {

class PairOperations {
 public:
  // `names_functions`: /proc has the pids that the kernel side sees. `names`: outlives this, and knows a stack some looks later.
  PairOperations(pairs_bpf& skeleton, ElfReader& names, bool names_functions)
      : skeleton_(&skeleton), reader_(&names), names_functions_(names_functions)
  {
  }

  using IsAlive = std::function<bool(std::uint32_t tgid, std::uint64_t start_ns)>;
  // One record for each process and pair. What is known of processes that are gone, or are spared, is forgotten. `pairs`: by
  // number; null: its probes are detached.
  void collect(MonoTime now, std::uint32_t epoch, std::span<const PairSpec* const> pairs, const IsAlive& is_alive, RawTick& into);
  // Why a stack has no names, if one has none since this was asked.
  std::string take_trouble() { return std::exchange(trouble_, {}); }
  // Hits that there was no room for.
  std::uint64_t uncounted() const { return skeleton_->bss->uncounted; }

 private:
  using ProcessPair = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;  // tgid, start, pair
  using Lane = std::pair<ProcessPair, std::uint64_t>;                           // first part of the key
  struct Group {
    laggard_pair_record record{};
    std::uint32_t exec = 0;
    std::uint64_t last_ended_begin_ns = 0;
    // What is outstanding, by who began it: there may be tens of thousands, and few who begin them.
    struct Begun {
      std::uint32_t count = 0;
      std::uint32_t overtaken = 0;
      laggard_operation example{};
    };
    std::map<std::pair<std::uint64_t, std::int32_t>, Begun> begun;  // by caller and stack
  };

  void forget_abandoned();
  std::map<ProcessPair, Group> groups(std::uint64_t now_ns, std::uint32_t epoch, std::span<const PairSpec* const> pairs, const IsAlive& is_alive);
  std::map<Lane, std::uint64_t> lanes(const std::map<ProcessPair, Group>& groups);
  void forget_calls(const IsAlive& is_alive);
  static void count(Group& group, const laggard_operation& operation, bool overtaken, std::uint64_t now_ns);
  void tell_who_begins(Group& group);
  std::vector<std::uint64_t> addresses_of(const laggard_operation& operation) const;

  using Stack = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::int32_t>;  // tgid, start, caller, stack
  void ask_for_names(const Stack& stack, const std::vector<std::uint64_t>& addresses);

  pairs_bpf* skeleton_;
  ElfReader* reader_;
  bool names_functions_;
  std::map<ProcessPair, std::uint64_t> abandoned_;  // operations
  std::map<Stack, std::string> stacks_;
  std::optional<Stack> asked_for_;  // one at a time
  bool is_asking_ = false;
  std::string trouble_;
};

}  // namespace laggard::source::live
