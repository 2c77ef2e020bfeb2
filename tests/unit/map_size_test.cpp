// SPDX-License-Identifier: MIT
#include "source/live/map_size.h"

#include <gtest/gtest.h>

namespace laggard::source::live {
namespace {

TEST(MapSize, AnLruHashHasRoomForWhatEachCpuTakesAside)
{
  EXPECT_EQ(lru_max_entries(8192, 1), 8320U);
  EXPECT_EQ(lru_max_entries(8192, 2), 8448U);
  EXPECT_EQ(lru_max_entries(8192, 64), 16384U);
  EXPECT_EQ(lru_max_entries(8192, 256), 40960U);
}

TEST(MapSize, WithoutANumberOfCpusItIsThatOfOne)
{
  EXPECT_EQ(lru_max_entries(8192, -2), 8320U);  // libbpf_num_possible_cpus() failed
  EXPECT_EQ(lru_max_entries(8192, 0), 8320U);
}

}  // namespace
}  // namespace laggard::source::live
