// SPDX-License-Identifier: MIT
// What the BPF objects promise before any kernel sees them.
#include <gtest/gtest.h>

#include "support/bpf_object.h"

namespace laggard {
namespace {

// announce() writes one socket record and does nothing else with a tcp_sock. What is loaded twice can differ, and a
// packet in between would look like a read.
TEST(BpfObjects, ASocketRecordLoadsEachPositionOnce)
{
  for (const char* variant : {"laggard", "laggard_before_6_2"}) {
    auto object = test::read_bpf_object(std::string(LAGGARD_BINARY_DIR "/bpf/") + variant + ".reads.bpf.o");
    auto& loads = object.field_loads["announce"];
    EXPECT_EQ(loads["tcp_sock.rcv_nxt"], 1) << variant;
    EXPECT_EQ(loads["tcp_sock.copied_seq"], 1) << variant;
  }
}

}  // namespace
}  // namespace laggard
