// SPDX-License-Identifier: MIT
// How little the processes may do that read files which somebody may have written to do harm: a starter that forks a reader
// for each task, and those readers. None of it is ever given back. The filters are written out here: libseccomp would save 20
// lines and cost a package.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace laggard::source::live {

// For a process that has just been forked, while its parent has one thread: no capability and, where drop_privileges() can,
// nobody; no descriptor but `keep`, which becomes kKept; not dumpable; ends with its parent; at most `memory_bytes` more than
// it has, no core; no system call but to fork readers, and those of a reader.
inline constexpr int kKept = 3;
Result<void> confine_starter(int keep, pid_t parent, std::uint64_t memory_bytes);

// For a reader that a starter has forked: may read and close what it has, receive and send descriptors, allocate memory that
// holds no code. It can open no file or socket, start nothing, signal nobody. SIGXCPU ends it after `cpu_seconds`.
Result<void> confine_reader(pid_t starter, std::uint32_t cpu_seconds);

}  // namespace laggard::source::live
