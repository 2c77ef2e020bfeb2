// SPDX-License-Identifier: MIT
#include "pairs_support.h"

#include <unistd.h>

#include <cstdlib>

// Not inlined, and with a body of their own each, so that no linker folds them.
extern "C" {
__attribute__((noinline, used)) void laggard_test_begin(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e)
{
  asm volatile("# begin" : : "r"(a), "r"(b), "r"(c), "r"(d), "r"(e) : "memory");
}
__attribute__((noinline, used)) void laggard_test_end(std::uint64_t a, std::uint64_t b) { asm volatile("# end" : : "r"(a), "r"(b) : "memory"); }
__attribute__((noinline, used)) void laggard_test_cancel(std::uint64_t a, std::uint64_t b) { asm volatile("# cancel" : : "r"(a), "r"(b) : "memory"); }
__attribute__((noinline, used)) void laggard_test_close(std::uint64_t a) { asm volatile("# close" : : "r"(a) : "memory"); }
// Refuses odd numbers.
__attribute__((noinline, used)) int laggard_test_try(std::uint64_t key)
{
  asm volatile("# try" : : "r"(key) : "memory");
  return key % 2 == 0 ? 0 : -1;
}
// What it returns is known by nothing else; NULL for 0.
__attribute__((noinline, used)) void* laggard_test_open(std::uint64_t number)
{
  asm volatile("# open" : : "r"(number) : "memory");
  return reinterpret_cast<void*>(number * 4096);
}
__attribute__((noinline, used)) std::uint64_t laggard_test_take(const std::uint64_t* left)
{
  asm volatile("# take" : : "r"(left) : "memory");
  return *left;
}
__attribute__((noinline, used)) void laggard_test_caller(std::uint64_t key)
{
  laggard_test_begin(key, 0, 0, 0, 0);
  asm volatile("# no tail call");
}
}

namespace {

// What a copy does instead of testing, before main(): begins four operations and ends the last of them each time it is told to; before
// that begins 300, a millisecond apart; or makes room for another program, which is itself.
__attribute__((constructor)) void begin_three_operations()
{
  if (std::getenv("LAGGARD_PAIRS_COPY") == nullptr)
    return;
  std::uint64_t key = 0;
  for (char byte = '@'; ::write(STDOUT_FILENO, &byte, 1) == 1 && ::read(STDIN_FILENO, &byte, 1) == 1; byte = '#') {
    if (byte == 'x')
      ::execl("/proc/self/exe", "again", nullptr);
    const useconds_t pace = std::getenv("LAGGARD_LIVE_QUICK") == nullptr ? 1'000 : 20'000;  // an emulated machine reads symbols slowly
    if (byte == 't')
      for (int i = 0; i < 300; i++, ::usleep(pace))
        laggard_test_begin(++key, 0, 0, 0, 0);
    for (int i = 0; i < 4; i++)
      laggard_test_caller(++key);
    laggard_test_end(key, 0);
  }
  ::_exit(0);
}

}  // namespace
