// SPDX-License-Identifier: MIT
// What the BPF objects promise before any kernel sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "support/bpf_object.h"

namespace laggard {
namespace {

constexpr const char* kObjects = LAGGARD_BINARY_DIR "/bpf/";

// Objects that linked ones are made of, each for both architectures.
std::vector<std::string> object_names()
{
  std::vector<std::string> names = {"pairs.bpf.o"};
  for (const char* feed : {"reads", "state", "sweep", "tasks", "growth"})
    for (const char* variant : {"laggard", "laggard_before_6_2"})
      names.push_back(std::string(variant) + "." + feed + ".bpf.o");
  return names;
}

std::string path_of(const std::string& arch, const std::string& name)
{
  return kObjects + (arch == LAGGARD_BPF_ARCH ? name : arch + "/" + name);
}

TEST(BpfObjects, BothArchitecturesHaveTheSamePrograms)
{
  for (const std::string& name : object_names()) {
    const auto programs = test::read_bpf_object(path_of("x86", name)).programs;
    EXPECT_FALSE(programs.empty()) << name;
    EXPECT_EQ(test::read_bpf_object(path_of("arm64", name)).programs, programs) << name;
  }
}

// CO-RE finds no register of another architecture, and a program that asks for one does not load.
TEST(BpfObjects, EachArchitectureAsksForItsOwnRegisters)
{
  const std::map<std::string, std::vector<std::string>> registers = {
      {"x86",
       {"ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ip",
        "orig_ax"}},
      {"arm64", {"regs", "sp", "pc", "orig_x0", "syscallno"}}};
  for (const auto& [arch, known] : registers) {
    int loads = 0;
    for (const std::string& name : object_names())
      for (const auto& [function, fields] : test::read_bpf_object(path_of(arch, name)).field_loads)
        for (const auto& [field, count] : fields)
          if (field.starts_with("pt_regs.")) {
            loads += count;
            EXPECT_THAT(known, testing::Contains(field.substr(8))) << arch << " " << name << " " << function;
          }
    EXPECT_GT(loads, 0) << arch;
  }
}

// announce() writes one socket record and does nothing else with a tcp_sock. What is loaded twice can differ, and a
// packet in between would look like a read.
TEST(BpfObjects, ASocketRecordLoadsEachPositionOnce)
{
  for (const char* variant : {"laggard", "laggard_before_6_2"}) {
    auto object = test::read_bpf_object(kObjects + std::string(variant) + ".reads.bpf.o");
    auto& loads = object.field_loads["announce"];
    EXPECT_EQ(loads["tcp_sock.rcv_nxt"], 1) << variant;
    EXPECT_EQ(loads["tcp_sock.copied_seq"], 1) << variant;
  }
}

}  // namespace
}  // namespace laggard
