// SPDX-License-Identifier: MIT
// The lines that the BPF programs compile.
#include "lib/arithmetic.h"

#include <gtest/gtest.h>

namespace laggard {
namespace {

void expect_positions(const laggard_positions& positions, __u32 rcv_nxt, __u32 copied_seq, __u32 unread_bytes)
{
  EXPECT_EQ(positions.rcv_nxt, rcv_nxt);
  EXPECT_EQ(positions.copied_seq, copied_seq);
  EXPECT_EQ(positions.unread_bytes, unread_bytes);
  EXPECT_EQ(positions.rcv_nxt - positions.copied_seq, positions.unread_bytes);
}

TEST(Positions, CopiedSeqIsTheReadersAlone)
{
  expect_positions(laggard_positions_of(1700, 1000, false), 1700, 1000, 700);
  expect_positions(laggard_positions_of(1717, 1000, false), 1717, 1000, 717);  // a packet later
  expect_positions(laggard_positions_of(16, 0xfffffff0U, false), 16, 0xfffffff0U, 32);
  expect_positions(laggard_positions_of(1700, 1700, false), 1700, 1700, 0);
}

TEST(Positions, AFinIsNoPayload)
{
  expect_positions(laggard_positions_of(1701, 1000, true), 1700, 1000, 700);
  expect_positions(laggard_positions_of(1701, 1700, true), 1700, 1700, 0);  // the payload is read, the FIN is not
  expect_positions(laggard_positions_of(1701, 1701, true), 1700, 1700, 0);  // both are
  expect_positions(laggard_positions_of(0, 0xffffffffU, true), 0xffffffffU, 0xffffffffU, 0);
}

// copied_seq of a later moment than rcv_nxt, or of a handshake.
TEST(Positions, NothingIsUnreadBehindTheEnd)
{
  expect_positions(laggard_positions_of(1700, 1717, false), 1700, 1700, 0);
}

TEST(Jiffies, AStampIsWidenedIntoThePast)
{
  const __u64 now = (7ULL << 32) + 1000;
  EXPECT_EQ(widen_jiffies(1000, now), now);
  EXPECT_EQ(widen_jiffies(983, now), now - 17);
  EXPECT_EQ(widen_jiffies(0xffffffffU, now), now - 1001);  // before the low half wrapped
  EXPECT_EQ(widen_jiffies(0x80000000U, now), (6ULL << 32) + 0x80000000U);
  EXPECT_EQ(widen_jiffies(0, now), 0U);  // none
}

// A packet arrives after the clock was read.
TEST(Jiffies, AStampThatIsALittleNewerIsNow)
{
  for (const __u64 now : {(7ULL << 32) + 1000, (7ULL << 32) + 0xffffffffU, 300ULL, 5ULL << 32})
    for (const __u32 newer : {1U, 2U, 250U, 60'000U}) {
      if (const auto low = static_cast<__u32>(now + newer); low != 0) {
        EXPECT_EQ(widen_jiffies(low, now), now) << now << " + " << newer;
      }
    }
}

}  // namespace
}  // namespace laggard
