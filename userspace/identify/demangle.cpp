// SPDX-License-Identifier: MIT
#include "identify/demangle.h"

#include <cxxabi.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>

namespace laggard::identify {
namespace {

constexpr std::size_t kMaxMangledBytes = 2048;
constexpr std::size_t kMaxReadableBytes = 4096;
// "S1_" repeats an earlier part of the name, which may repeat others: n of them can make it about 1.44^n times as long.
// Measured: 32 of them 1.6 MB in 16 ms, 39 of them 24 MB in 160 ms.
constexpr int kMaxRepeats = 32;

// _ZN4core3fmt5write17h0123456789abcdefE, maybe with ".llvm.123" behind it.
bool is_rust(std::string_view name)
{
  constexpr std::size_t kHashDigits = 16;
  for (std::size_t at = name.find("17h"); at != std::string_view::npos; at = name.find("17h", at + 1)) {
    const std::string_view hash = name.substr(at + 3, kHashDigits + 1);
    if (hash.size() == kHashDigits + 1 && hash.back() == 'E' &&
        std::all_of(hash.begin(), hash.end() - 1, [](unsigned char c) { return std::isxdigit(c) != 0; }))
      return true;
  }
  return false;
}

int count_repeats(std::string_view name)
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

std::string demangled(std::string_view name)
{
  const std::string mangled(name);
  if (!name.starts_with("_Z") || name.size() > kMaxMangledBytes || is_rust(name) || count_repeats(name) > kMaxRepeats)
    return mangled;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), &std::free);
  if (status != 0 || readable == nullptr) return mangled;
  const std::string_view text(readable.get());
  return text.size() > kMaxReadableBytes ? mangled : std::string(text);
}

}  // namespace laggard::identify
