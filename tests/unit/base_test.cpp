// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <string>

#include "base/seq32.h"
#include "base/units.h"

namespace laggard {
namespace {

using namespace std::chrono_literals;

TEST(Units, DurationsTakeEveryUnitFractionsAndSums)
{
  const std::pair<const char*, Duration> good[] = {
      {"0s", 0s},      {"17ns", 17ns}, {"3us", 3us}, {"500ms", 500ms},   {"1s", 1s},    {"1.5s", 1500ms},
      {"2m", 2min},    {"2min", 2min}, {"7h", 7h},   {"1h30m", 90min},   {"2d", 48h},   {"1m0.25s", 60250ms},
      {"0.001us", 1ns}, {"1157d", 1157 * 24h},
  };
  for (const auto& [text, expected] : good) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(Units, WhatIsNoDurationIsRefusedByName)
{
  const std::string digits(400, '9');
  for (const std::string& text : {std::string{}, std::string{"5"}, std::string{"s"}, std::string{"-1s"}, std::string{"+1s"},
                                  std::string{" 1s"}, std::string{"1 s"}, std::string{"1s "}, std::string{"1s2"},
                                  std::string{"1S"}, std::string{"1,5s"}, std::string{"1e3s"}, std::string{"0x1s"},
                                  std::string{"infs"}, std::string{"nans"}, std::string{"1.s"}, std::string{".5s"},
                                  std::string{"1fortnight"}, std::string{"1158d"}, std::string{"999999999999999999h"},
                                  digits + "s", std::string("1s\0", 3)}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().message().find(text), std::string::npos) << parsed.error().message();
  }
}

TEST(Units, BareSizesAreBytesAndLettersAreBinary)
{
  const std::pair<const char*, std::uint64_t> good[] = {
      {"0", 0},           {"4096", 4096},     {"12B", 12},          {"64K", 64 << 10},          {"64KiB", 64 << 10},
      {"8MiB", 8 << 20},  {"1M", 1 << 20},    {"3GiB", 3ULL << 30}, {"2G", 2ULL << 30},         {"10kB", 10'000},
      {"10KB", 10'000},   {"10MB", 10000000}, {"1GB", 1000000000},  {"1.5KiB", 1536},           {"1000000000GB", 1000000000000000000},
  };
  for (const auto& [text, expected] : good) {
    const auto parsed = parse_bytes(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(Units, WhatIsNoSizeIsRefusedByName)
{
  for (const char* text : {"", "KiB", "-1", "+1", "1 KiB", "1kib", "1TiBs", "1e3", "1KiB1", "1000000001GB", "0x10", "inf",
                           "18446744073709551616", "99999999999999999999999999999999GiB", "1."}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().message().find(text), std::string::npos);
  }
}

TEST(Units, SharesArePercentOrFractionUpToAll)
{
  const std::pair<const char*, double> good[] = {{"0", 0},   {"0%", 0},   {"50%", 0.5},   {"0.5", 0.5},
                                                 {"1", 1.0}, {"100%", 1}, {"12.5%", 0.125}};
  for (const auto& [text, expected] : good) {
    const auto parsed = parse_share(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_DOUBLE_EQ(*parsed, expected) << text;
  }
  for (const char* text : {"", "%", "101%", "1.01", "50", "-1%", "50 %", "50%%", "half", "nan"})
    EXPECT_FALSE(parse_share(text)) << text;
}

TEST(Units, CountsAreDigitsOnly)
{
  EXPECT_EQ(parse_count("0"), 0U);
  EXPECT_EQ(parse_count("18446744073709551615"), 18446744073709551615ULL);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "1k", "1.5", "0x10", "18446744073709551616"})
    EXPECT_FALSE(parse_count(text)) << text;
}

TEST(Units, DurationsReadAsPeopleSayThem)
{
  const std::pair<Duration, const char*> cases[] = {
      {0ns, "0 us"},        {17us, "17 us"},        {340ms, "340 ms"}, {4200ms, "4.2 s"},      {5s, "5 s"},
      {999'600us, "1 s"},   {9'960ms, "10 s"},      {42s, "42 s"},     {119s, "119 s"},        {120s, "2 min"},
      {47min + 59s, "47 min"}, {3h + 12min, "3 h 12 min"}, {51h, "2 d 3 h"},  {47h + 59min, "47 h 59 min"}};
  for (const auto& [duration, expected] : cases)
    EXPECT_EQ(format_duration(duration), expected);
}

TEST(Units, QuantitiesKeepThreeDigitsAndTheirUnit)
{
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(12), "12 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(24678), "24.1 KiB");
  EXPECT_EQ(format_bytes(1.4 * (1ULL << 30)), "1.4 GiB");
  EXPECT_EQ(format_bytes(5e15), "4547 TiB");
  EXPECT_EQ(format_rate(5.4e6), "5.4 MB/s");
  EXPECT_EQ(format_rate(999), "999 B/s");
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(2.5), "2.5");
  EXPECT_EQ(format_count(23), "23");
  EXPECT_EQ(format_count(9999), "9999");
  EXPECT_EQ(format_count(450e3), "450 k");
  EXPECT_EQ(format_count(1.2e6), "1.2 M");
  EXPECT_EQ(format_percent(0.97), "97 %");
}

TEST(Seq32, OrderSurvivesTheWrap)
{
  EXPECT_TRUE(seq_before(1, 2));
  EXPECT_FALSE(seq_before(2, 2));
  EXPECT_FALSE(seq_before(2, 1));
  EXPECT_TRUE(seq_before(0xffffffffU, 0));
  EXPECT_TRUE(seq_before(0xfffffff0U, 0x7fffffefU));
  EXPECT_TRUE(seq_after(5, 0xfffffffbU));
  EXPECT_FALSE(seq_after(0xfffffffbU, 5));
}

TEST(Time, ZeroOnTheWireIsUnknown)
{
  EXPECT_FALSE(known(mono_time(0)));
  EXPECT_TRUE(known(mono_time(1)));
  EXPECT_DOUBLE_EQ(seconds(1500ms), 1.5);
}

TEST(Result, AnErrorSaysTheThingAndTheReason)
{
  const Result<int> plain = failure("the thing is missing");
  EXPECT_EQ(plain.error().message(), "the thing is missing");
  const Result<int> system = errno_failure("cannot open x", ENOENT);
  EXPECT_EQ(system.error().message(), "cannot open x: No such file or directory");
  EXPECT_EQ(system.error().code.value(), ENOENT);
}

}  // namespace
}  // namespace laggard
