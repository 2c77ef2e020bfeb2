// SPDX-License-Identifier: MIT
#include "identify/demangle.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace laggard::identify {
namespace {

constexpr std::size_t kMaxMangledBytes = 4096;
constexpr std::size_t kMaxReadableBytes = 1U << 20;
// "S1_" repeats an earlier part of the name, which may repeat others: n of them can make it about 1.44^n times as long,
// and __cxa_demangle has no limit of its own. Measured: 32 of them 1.6 MB in 16 ms, 39 of them 24 MB in 160 ms.
constexpr int kMaxRepeats = 32;

int count_repeats(const std::string& name)
{
  int repeats = 0;
  for (std::size_t i = 0; i + 1 < name.size(); ++i) {
    const auto next = static_cast<unsigned char>(name[i + 1]);
    if ((name[i] == 'S' || name[i] == 'T') && (next == '_' || std::isdigit(next) != 0 || std::isupper(next) != 0))
      ++repeats;
  }
  return repeats;
}

}  // namespace

std::string demangled(const std::string& name)
{
  if (!name.starts_with("_Z") || name.size() > kMaxMangledBytes || count_repeats(name) > kMaxRepeats) return name;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, nullptr), &std::free);
  return readable == nullptr || std::strlen(readable.get()) > kMaxReadableBytes ? name : readable.get();
}

}  // namespace laggard::identify
