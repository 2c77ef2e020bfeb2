// SPDX-License-Identifier: MIT
// How large a map must be for what it is to hold.
#pragma once

#include <algorithm>

namespace laggard::source::live {

// Of an LRU hash that is to hold `wanted` entries before it forgets any. kernel/bpf/bpf_lru_list.c: each CPU takes
// LOCAL_FREE_TARGET free nodes at a time, and others cannot use what it has taken: with 64 CPUs that is all of 8192.
inline unsigned lru_max_entries(unsigned wanted, int possible_cpus)
{
  constexpr unsigned kLocalFreeTarget = 128;
  constexpr int kMostCpus = 8192;  // CONFIG_NR_CPUS with MAXSMP, x86
  return wanted + kLocalFreeTarget * static_cast<unsigned>(std::clamp(possible_cpus, 1, kMostCpus));
}

}  // namespace laggard::source::live
