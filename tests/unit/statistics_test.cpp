// SPDX-License-Identifier: MIT
#include "model/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <random>

namespace laggard::model {
namespace {

std::vector<Point> points_of(int count, const std::function<double(int)>& y)
{
  std::vector<Point> points;
  for (int i = 0; i < count; i++)
    points.push_back({static_cast<double>(i), y(i)});
  return points;
}

TEST(Statistics, MedianIsTheLowerOne)
{
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({7}), 7);
  EXPECT_EQ(median({9, 1}), 1);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({4, 3, 2, 1}), 2);
}

TEST(Statistics, TheilSenIsTheSlopeOfALine)
{
  EXPECT_DOUBLE_EQ(theil_sen_slope(points_of(10, [](int i) { return 100 + 13.0 * i; })), 13);
  EXPECT_DOUBLE_EQ(theil_sen_slope(points_of(10, [](int i) { return -2.5 * i; })), -2.5);
  EXPECT_EQ(theil_sen_slope({}), 0);
  EXPECT_EQ(theil_sen_slope(points_of(1, [](int) { return 5; })), 0);
}

TEST(Statistics, TheilSenIgnoresAQuarterOfOutliers)
{
  const auto points = points_of(32, [](int i) { return i % 4 == 3 ? 1e9 : 13.0 * i; });
  EXPECT_NEAR(theil_sen_slope(points), 13, 13 * 0.35);
}

TEST(Statistics, TheilSenLeavesOutPairsOfOneMoment)
{
  const std::vector<Point> points = {{0, 0}, {0, 1000}, {1, 5}, {2, 10}};
  EXPECT_TRUE(std::isfinite(theil_sen_slope(points)));
}

TEST(Statistics, ALineRisesSignificantlyAndItsMirrorDoesNot)
{
  EXPECT_TRUE(rises_significantly(points_of(10, [](int i) { return 1.0 * i; })));
  EXPECT_FALSE(rises_significantly(points_of(10, [](int i) { return -1.0 * i; })));
  EXPECT_FALSE(rises_significantly(points_of(10, [](int) { return 3.0; })));
  EXPECT_FALSE(rises_significantly(points_of(3, [](int i) { return 1.0 * i; })));
  EXPECT_FALSE(rises_significantly({}));
}

TEST(Statistics, FourPointsCanNeverProveATrendAtOnePercentButFiveCan)
{
  // s = 6, sigma = 2.94: z = 1.70. s = 10, sigma = 4.08: z = 2.20. s = 15, sigma = 5.32: z = 2.63.
  EXPECT_FALSE(rises_significantly(points_of(4, [](int i) { return 1.0 * i; })));
  EXPECT_FALSE(rises_significantly(points_of(5, [](int i) { return 1.0 * i; })));
  EXPECT_TRUE(rises_significantly(points_of(6, [](int i) { return 1.0 * i; })));
}

TEST(Statistics, TiesWeakenATrend)
{
  // One step in ten: s = 9, far less than the 45 of a line.
  EXPECT_FALSE(rises_significantly(points_of(10, [](int i) { return i == 9 ? 1.0 : 0.0; })));
  EXPECT_TRUE(rises_significantly(points_of(10, [](int i) { return i / 2 * 1.0; })));
}

TEST(Statistics, NoiseRisesSignificantlyOnceInAHundredTimesAtMost)
{
  std::mt19937 random{17};
  std::uniform_real_distribution<double> noise{0, 1};
  int found = 0;
  for (int run = 0; run < 2000; run++)
    found += rises_significantly(points_of(30, [&](int) { return noise(random); }));
  EXPECT_LE(found, 40);  // 1 % is 20
  EXPECT_GE(found, 5);
}

// The kernel side's accounting of reads (bpf/reads.bpf.c), with the truth beside it.
struct Reads {
  ReadCounts sample;
  std::vector<std::uint32_t> truth;

  void read(std::uint32_t bytes, std::uint32_t times = 1)
  {
    const auto bucket = [](std::uint32_t size) {
      return size == 0 ? 0 : std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(size) - 1), kSizeBuckets - 1);
    };
    for (std::uint32_t i = 0; i < times; i++) {
      if (bytes != sample.run_bytes) {
        sample.sizes[bucket(sample.run_bytes)] += static_cast<std::uint32_t>(sample.run_reads);
        sample.run_bytes = bytes;
        sample.run_reads = 0;
      }
      sample.run_reads++;
      sample.reads++;
      sample.read_bytes += bytes;
      truth.push_back(bytes);
    }
  }
};

TEST(ReadSizes, NoReadsHaveNoSize)
{
  const ReadSizes sizes = read_sizes_between(ReadCounts{}, ReadCounts{});
  EXPECT_EQ(sizes.reads, 0U);
  EXPECT_EQ(sizes.p50_bytes, 0U);
  EXPECT_FALSE(sizes.p50_is_exact);
}

TEST(ReadSizes, ARunThatGoesOnCountsOnlyWhatIsNew)
{
  Reads reads;
  reads.read(12, 1000);
  const ReadCounts before = reads.sample;
  reads.read(12, 71);
  const ReadSizes sizes = read_sizes_between(before, reads.sample);
  EXPECT_EQ(sizes.reads, 71U);
  EXPECT_EQ(sizes.p50_bytes, 12U);
  EXPECT_EQ(sizes.p99_bytes, 12U);
  EXPECT_TRUE(sizes.p50_is_exact);
}

TEST(ReadSizes, ARunThatEndedDoesNotBringItsPast)
{
  Reads reads;
  reads.read(12, 100'000);
  const ReadCounts before = reads.sample;
  reads.read(65536, 100);  // the 12-byte run of before enters the histogram only now
  reads.read(4096, 3);
  const ReadSizes sizes = read_sizes_between(before, reads.sample);
  EXPECT_EQ(sizes.reads, 103U);
  EXPECT_GE(sizes.p50_bytes, 65536U);
  EXPECT_LT(sizes.p50_bytes, 131072U);
}

TEST(ReadSizes, ARunThatEndedAndStartedAgainWithTheSameSizeCountsBothParts)
{
  Reads reads;
  reads.read(12, 5000);
  const ReadCounts before = reads.sample;
  reads.read(12, 7);
  reads.read(100'000, 2);
  reads.read(12, 11);
  const ReadSizes sizes = read_sizes_between(before, reads.sample);
  EXPECT_EQ(sizes.reads, 20U);
  EXPECT_EQ(sizes.p50_bytes, 12U);
  EXPECT_TRUE(sizes.p50_is_exact);
}

TEST(ReadSizes, TheHistogramMayWrap)
{
  Reads reads;
  reads.sample.sizes[3] = 0xfffffff0U;  // of 8 to 15 bytes
  reads.sample.reads = 0x1fffffff0ULL;
  const ReadCounts before = reads.sample;
  reads.read(12, 50);
  reads.read(2048, 10);
  const ReadSizes sizes = read_sizes_between(before, reads.sample);
  EXPECT_EQ(sizes.reads, 60U);
  EXPECT_GE(sizes.p50_bytes, 8U);
  EXPECT_LE(sizes.p50_bytes, 15U);
  EXPECT_GE(sizes.p99_bytes, 2048U);
}

TEST(ReadSizes, WithoutADominantRunTheMedianIsKnownWithinItsPowerOfTwo)
{
  Reads reads;
  for (int i = 0; i < 101; i++)
    reads.read(1000 + static_cast<std::uint32_t>(i % 7), 1);
  const ReadSizes sizes = read_sizes_between(ReadCounts{}, reads.sample);
  EXPECT_FALSE(sizes.p50_is_exact);
  EXPECT_GE(sizes.p50_bytes, 512U);
  EXPECT_LT(sizes.p50_bytes, 2048U);
}

TEST(ReadSizes, ADominantBucketsMeanIsBetterThanAGuess)
{
  Reads reads;
  for (std::uint32_t i = 0; i < 400; i++)
    reads.read(i % 2 == 0 ? 9 : 10, 1);
  const ReadSizes sizes = read_sizes_between(ReadCounts{}, reads.sample);
  EXPECT_GE(sizes.p50_bytes, 9U);
  EXPECT_LE(sizes.p50_bytes, 10U);
}

TEST(ReadSizes, MegabyteReadsStayInTheLastBucket)
{
  Reads reads;
  for (std::uint32_t i = 0; i < 9; i++)
    reads.read((64U << 20) + i);
  const ReadSizes sizes = read_sizes_between(ReadCounts{}, reads.sample);
  EXPECT_EQ(sizes.reads, 9U);
  EXPECT_GE(sizes.p50_bytes, 1U << 20);
}

// The median may be off by its power of two, never by more.
TEST(ReadSizes, TheMedianIsWithinItsPowerOfTwoForAnyHistory)
{
  std::mt19937 random{99};
  for (int run = 0; run < 500; run++) {
    Reads reads;
    const auto play = [&] {
      for (auto steps = random() % 20; steps > 0; steps--)
        reads.read(1U << random() % 18 | 1U, static_cast<std::uint32_t>(1 + random() % 30));
    };
    play();
    const ReadCounts before = reads.sample;
    const std::size_t past = reads.truth.size();
    play();
    std::vector<std::uint32_t> fresh(reads.truth.begin() + static_cast<std::ptrdiff_t>(past), reads.truth.end());
    if (fresh.empty())
      continue;
    std::sort(fresh.begin(), fresh.end());
    const ReadSizes sizes = read_sizes_between(before, reads.sample);
    ASSERT_EQ(sizes.reads, fresh.size());
    const double low = fresh[(fresh.size() - 1) / 2], high = fresh[fresh.size() / 2];
    ASSERT_GE(static_cast<double>(sizes.p50_bytes) * 2, low) << "run " << run;
    ASSERT_LE(static_cast<double>(sizes.p50_bytes), high * 2) << "run " << run;
  }
}

}  // namespace
}  // namespace laggard::model
