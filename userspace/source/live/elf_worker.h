// SPDX-License-Identifier: MIT
// What goes on in the processes of an ElfReader.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "identify/symbols.h"
#include "source/live/elf_messages.h"

namespace laggard::source::live {

inline constexpr int kOutOfMemory = 17;  // exit code of a reader

// In a child that has just been forked: confines itself, says so, and forks a reader for each Begin that `control` brings.
// When one has ended, its task's socket is told how.
[[noreturn]] void start_readers(int control, pid_t parent, std::uint64_t memory_bytes);

// Answer: is it one, and then what was asked for, or the error.
void add(Packer& packer, const identify::Frame& frame);
identify::Frame take_frame(Unpacker& unpacker);

}  // namespace laggard::source::live
