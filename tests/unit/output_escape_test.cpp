// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "detect/finding.h"
#include "output/escape.h"
#include "output/fields.h"
#include "output/wrap.h"

namespace laggard::output {
namespace {

std::string json_string(std::string_view text)
{
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(Escape, ReplacesInvalidUtf8AsNlohmannDoes)
{
  using nlohmann::json;
  // Every two-byte sequence and every lead byte in front of every second byte of three.
  for (int a = 0; a < 256; a++)
    for (int b = 0; b < 256; b++)
      for (std::string text : {std::string{static_cast<char>(a), static_cast<char>(b)},
                               std::string{static_cast<char>(a), static_cast<char>(b), '\x80', '\x80', 'z'}}) {
        const std::string theirs = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
        ASSERT_EQ(json::parse(json_string(text)), json::parse(theirs)) << a << " " << b;
      }
}

TEST(Escape, ControlsAndFormatCharacters)
{
  EXPECT_EQ(json_string("a\"\\\n\t\r\x1b\x7f"), R"("a\"\\\n\t\r\u001b\u007f")");
  EXPECT_EQ(json_string("\xc2\x9b\xe2\x80\xae\xf3\xa0\x81\x81"), R"("\u009b\u202e\udb40\udc41")");
  EXPECT_EQ(json_string("\xc3\xa4\xf0\x9f\x98\x80/"), "\"\xc3\xa4\xf0\x9f\x98\x80/\"");
  EXPECT_EQ(visible("\x1b\xff\xe2\x80\xae\xf3\xa0\x81\x81\xc2\x9b"), "\\x1b\\xff\\u202e\\U000e0041\\u009b");
}

TEST(Escape, PrefixEndsBetweenCharacters)
{
  const std::string euros = "\xe2\x82\xac\xe2\x82\xac";
  EXPECT_EQ(utf8_prefix(euros, 5), euros.substr(0, 3));
  EXPECT_EQ(utf8_prefix(euros, 3), euros.substr(0, 3));
  EXPECT_EQ(utf8_prefix(euros, 2), "");
  EXPECT_EQ(utf8_prefix(euros, 6), euros);
  EXPECT_EQ(utf8_prefix(std::string(9, '\x80'), 7).size(), 7U);
}

TEST(Fields, NumbersKeepTheirType)
{
  const auto number = [](double value) {
    std::string out;
    append_number(out, value);
    return out;
  };
  EXPECT_EQ(number(5), "5.0");
  EXPECT_EQ(number(0.1), "0.1");
  EXPECT_EQ(number(1e300), "1e+300");
  EXPECT_EQ(number(-0.0), "-0.0");
}

TEST(Fields, TimesAreRfc3339InUtc)
{
  EXPECT_EQ(rfc3339(WallTime{}), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(rfc3339(WallTime{Duration{951'868'799'999'999'999}}), "2000-02-29T23:59:59.999999999Z");
  EXPECT_EQ(rfc3339(WallTime{Duration{-1}}), "1969-12-31T23:59:59.999999999Z");
}

TEST(Wrap, KeepsQuantitiesTogetherAndCutsOnlyWhatCannotFit)
{
  EXPECT_EQ(wrap("aaaa 12 KiB", 9, 0, 2), "aaaa\n  12 KiB\n");
  EXPECT_EQ(wrap("aa >= 7 s bb", 6, 0, 1), "aa\n >= 7\n s bb\n");  // longer than a line: it must break somewhere
  EXPECT_EQ(wrap("abcdefgh", 5, 0, 2), "abcde\n  fgh\n");
  EXPECT_EQ(wrap("", 5, 0, 2), "\n");
  EXPECT_EQ(fit("abcdef", 4, "…"), "abc…");
  EXPECT_EQ(fit("abcd", 4, "…"), "abcd");
}

TEST(Finding, NamesRoundTrip)
{
#define LAGGARD_KIND_CHECK(name, text)                         \
  EXPECT_EQ(detect::to_string(detect::Kind::name), text);      \
  EXPECT_EQ(detect::parse_kind(text), detect::Kind::name);
  LAGGARD_FINDING_KINDS(LAGGARD_KIND_CHECK)
#undef LAGGARD_KIND_CHECK
  EXPECT_EQ(detect::parse_kind("slow"), std::nullopt);
  EXPECT_EQ(detect::title(detect::Kind::SlowReader), "SLOW READER");
  EXPECT_EQ(detect::title(detect::Kind::FinWait2), "FIN WAIT 2");
  EXPECT_EQ(detect::to_string(detect::Resolution::ProcessExited), "process_exited");
  EXPECT_EQ(detect::to_string(detect::Severity::Critical), "critical");
}

}  // namespace
}  // namespace laggard::output
