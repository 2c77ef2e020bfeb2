// SPDX-License-Identifier: MIT
#pragma once

#include <set>
#include <string>

#include "identify/elf_image.h"

namespace laggard::identify {

// "provider:name" of the USDT probes that the notes of a file describe. Of damaged notes, those before the damage.
std::set<std::string> usdt_probes(ElfImage& image);

}  // namespace laggard::identify
