// SPDX-License-Identifier: MIT
// What tests/unit/symbols_test.cpp looks at. Built without frame pointers, see there.
//   target fault       faults in memcpy, called by a std::vector that grows, called by what qsort calls
//   target wait [LIB]  says where its functions are, and waits; with LIB, loads it once told to
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
void exported_work();
}

namespace symbols_target {

char* protected_page = nullptr;
std::size_t record_bytes = 4096;  // not a constant to the compiler
bool armed = false;

struct Record {
  explicit Record(char* memory) : bytes(memory) {}
  Record(const Record& other) : bytes(armed ? protected_page : other.bytes)
  {
    if (armed) std::memcpy(bytes, other.bytes, record_bytes);
  }
  Record& operator=(const Record&) = default;
  char* bytes;
};

std::vector<Record> records;
char ordinary_page[4096];

void grow_records()
{
  records.reserve(1);
  records.push_back(Record(ordinary_page));
  armed = true;
  records.push_back(Record(ordinary_page));
}

int compare_records(const void* a, const void* b)
{
  grow_records();
  return std::memcmp(a, b, 1);
}

void sort_records()
{
  char two[2] = {2, 1};
  std::qsort(two, 2, 1, compare_records);
}

// In a stripped file this has no name, and must not get its neighbour's.
__attribute__((used)) static void hidden_work() { asm volatile("" ::: "memory"); }

void say_and_wait(const char* library)
{
  std::printf("%p %p %p\n", reinterpret_cast<void*>(&exported_work), reinterpret_cast<void*>(&hidden_work),
              reinterpret_cast<void*>(&say_and_wait));
  std::fflush(stdout);
  char go = 0;
  if (read(STDIN_FILENO, &go, 1) == 1 && library != nullptr) {
    void* handle = dlopen(library, RTLD_NOW);
    std::printf("%p\n", handle == nullptr ? nullptr : dlsym(handle, "late_work"));
    std::fflush(stdout);
  }
  for (;;) pause();
}

}  // namespace symbols_target

extern "C" __attribute__((visibility("default"))) void exported_work() { asm volatile("nop"); }

int main(int argc, char** argv)
{
  const std::string what = argc > 1 ? argv[1] : "";
  symbols_target::protected_page =
      static_cast<char*>(mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (what == "fault") symbols_target::sort_records();
  if (what == "wait") symbols_target::say_and_wait(argc > 2 ? argv[2] : nullptr);
  return 1;
}
