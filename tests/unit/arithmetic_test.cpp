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

}  // namespace
}  // namespace laggard
