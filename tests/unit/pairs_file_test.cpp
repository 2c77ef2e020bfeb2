// SPDX-License-Identifier: MIT
#include "cli/pairs_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

namespace laggard::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// The five lines of a good pair, of which a test replaces or adds one.
std::string pair(const std::string& name, const std::string& more = "")
{
  return "[[pair]]\nname = \"" + name + "\"\nbinary = \"libfoo.so.1\"\nbegin = \"foo_send\"\nend = \"foo_complete\"\n" +
         more;
}

std::string with(const std::string& key, const std::string& value)
{
  std::string text = "[[pair]]\n";
  for (const auto& [known, usual] : {std::pair<std::string, std::string>{"name", "\"send\""},
                                     {"binary", "\"libfoo.so.1\""},
                                     {"begin", "\"foo_send\""},
                                     {"end", "\"foo_complete\""}})
    if (known != key)
      text += known + " = " + usual + "\n";
  return text + (value.empty() ? "" : key + " = " + value + "\n");  // line 5 of what the file has in all
}

std::string only_error(const std::string& text)
{
  const PairsParsed parsed = parse_pairs(text, "p.toml");
  EXPECT_THAT(parsed.pairs, IsEmpty()) << text;
  EXPECT_THAT(parsed.errors, SizeIs(1)) << text;
  return parsed.errors.empty() ? "" : parsed.errors[0];
}

source::PairSpec only_pair(const std::string& text)
{
  const PairsParsed parsed = parse_pairs(text, "p.toml");
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_THAT(parsed.pairs, SizeIs(1));
  return parsed.pairs.empty() ? source::PairSpec{} : parsed.pairs[0];
}

std::vector<std::string> functions(const std::vector<source::ProbeSpec>& probes)
{
  std::vector<std::string> names;
  for (const source::ProbeSpec& probe : probes)
    names.push_back(probe.function);
  return names;
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_(std::filesystem::temp_directory_path() / ("laggard-pairs-" + std::to_string(::getpid())))
  {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(PairsFile, AFunctionMayHaveItsKeyElsewhereAndAKeyTwoParts)
{
  const source::PairSpec spec = only_pair(
      "[[pair]]\nname = \"stream\"\nbinary = \"*\"\nbegin = \"a\"\nbegin_key = [\"arg3\", \"*(arg1+8)\"]\n"
      "end = [\"b\", {function = \"c\", key = [\"arg4\", \"arg2\"]}]\nend_key = [\"arg1\", \"arg2\"]\n"
      "abandon = \"d\"\nabandon_key = \"arg2\"\n");
  ASSERT_THAT(spec.begins.at(0).keys, SizeIs(2));
  EXPECT_EQ(spec.begins[0].keys[0].argument, 3U);
  EXPECT_EQ(spec.begins[0].keys[1].dereferenced_at, 8);
  EXPECT_THAT(functions(spec.ends), ElementsAre("b", "c"));
  EXPECT_EQ(spec.ends[0].keys.at(1).argument, 2U);
  EXPECT_EQ(spec.ends[1].keys.at(0).argument, 4U);
  ASSERT_THAT(functions(spec.abandons), ElementsAre("d"));
  EXPECT_EQ(spec.abandons[0].keys.at(0).argument, 2U);
}

TEST(PairsFile, KeysThatNeverMatchAreRefused)
{
  EXPECT_THAT(only_error(pair("send", "end_key = [\"arg1\", \"arg2\"]\n")), AllOf(StartsWith("p.toml:5:"), HasSubstr("never match")));
  EXPECT_THAT(only_error(pair("send", "end_key = [\"arg1\", \"arg2\", \"arg3\"]\n")), HasSubstr("one or two"));
  EXPECT_THAT(only_error(pair("send", "begin_key = []\n")), HasSubstr("one or two"));
  EXPECT_THAT(only_error(pair("send", "abandon = \"foo_close\"\n")), AllOf(StartsWith("p.toml:6:"), HasSubstr("first part")));
  EXPECT_THAT(only_error(with("end", "[{key = \"arg1\"}]")), HasSubstr("'function' is missing"));
  EXPECT_THAT(only_error(with("end", "[{function = \"a\", keys = \"arg1\"}]")), HasSubstr("the key 'keys' is unknown"));
}

TEST(PairsFile, ReadsWhatTheReadmeShows)
{
  const source::PairSpec spec = only_pair(
      "# a comment\n[[pair]]\nname = \"send\"\nbinary = \"/usr/lib/libfoo.so.1\"\nbegin = \"foo_send\"\n"
      "begin_key = \"*(arg2+56)\"\nend = [\"foo_complete\",\n \"foo_cancel\"]\nend_key = \"arg3\"\nrepeats = "
      "\"ignore\"\n");
  EXPECT_EQ(spec.name, "send");
  EXPECT_EQ(spec.binary, "/usr/lib/libfoo.so.1");
  EXPECT_THAT(functions(spec.begins), ElementsAre("foo_send"));
  EXPECT_EQ(spec.begins[0].keys[0].argument, 2U);
  EXPECT_EQ(spec.begins[0].keys[0].dereferenced_at, 56);
  EXPECT_EQ(spec.begins[0].line, 5U);
  EXPECT_THAT(functions(spec.ends), ElementsAre("foo_complete", "foo_cancel"));
  EXPECT_EQ(spec.ends[0].keys[0].argument, 3U);
  EXPECT_EQ(spec.ends[0].keys[0].dereferenced_at, std::nullopt);
  EXPECT_EQ(spec.ends[0].line, 7U);
  EXPECT_TRUE(spec.ignore_repeats);
  EXPECT_EQ(spec.origin(), "p.toml:2");
}

TEST(PairsFile, HasDefaults)
{
  const source::PairSpec spec = only_pair(pair("send"));
  EXPECT_EQ(spec.begins[0].keys[0].argument, 1U);
  EXPECT_EQ(spec.ends[0].keys[0].argument, 1U);
  EXPECT_EQ(spec.begins[0].keys[0].dereferenced_at, std::nullopt);
  EXPECT_FALSE(spec.ignore_repeats);
}

TEST(PairsFile, TakesUsdtProbesAndNamesWithAsterisks)
{
  const source::PairSpec spec = only_pair(
      "[[pair]]\nname = \"a-2\"\nbinary = \"*\"\nbegin = [\"usdt:foo:begin\", \"usdt:foo:other__begin\"]\n"
      "end = \"*quic-go.(*streamsMap).DeleteStream\"\n");
  EXPECT_EQ(spec.binary, "*");
  EXPECT_THAT(functions(spec.begins), ElementsAre("usdt:foo:begin", "usdt:foo:other__begin"));
  EXPECT_THAT(functions(spec.ends), ElementsAre("*quic-go.(*streamsMap).DeleteStream"));
}

TEST(PairsFile, ReadsKeys)
{
  const auto offset = [](const std::string& key) {
    return only_pair(pair("send", "begin_key = \"" + key + "\"\n")).begins.at(0).keys.at(0).dereferenced_at;
  };
  EXPECT_EQ(offset("arg4"), std::nullopt);
  EXPECT_EQ(offset("*(arg4)"), 0);
  EXPECT_EQ(offset("*(arg4+0)"), 0);
  EXPECT_EQ(offset("*(arg4 - 0x10)"), -16);
  EXPECT_EQ(offset("*(arg4+2147483647)"), std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(offset("*(arg4-2147483648)"), std::numeric_limits<std::int32_t>::min());
  const std::string last = "arg" + std::to_string(max_arguments(true));
  EXPECT_EQ(only_pair(pair("send", "end_key = \"" + last + "\"\n")).ends.at(0).keys.at(0).argument, max_arguments(true));
  EXPECT_LT(max_arguments(false), max_arguments(true));
}

TEST(PairsFile, RefusesKeysThatAreNone)
{
  for (const char* key :
       {"", "arg", "2", "arg2+56", "arg-1", "argx", "Arg1", "*arg2", "*(arg2", "(arg2+56)", "*(arg2+)", "*(arg2*3)",
        "*(arg2+0x)", "*(arg2+ff)", "*(arg2+5-6)", "*(2+arg2)", "*()", "*(*(arg1))", "arg1 arg2"})
    EXPECT_THAT(only_error(pair("send", "begin_key = \"" + std::string(key) + "\"\n")),
                AllOf(StartsWith("p.toml:6: pair 'send': 'begin_key': '"),
                      HasSubstr("is neither an argument, such as arg2, nor the 8 bytes where one points to")))
        << key;
  for (const char* key : {"arg0", "arg17", "arg4294967297", "arg99999999999999999999", "*(arg0+8)"})
    EXPECT_THAT(only_error(pair("send", "end_key = \"" + std::string(key) + "\"\n")),
                AllOf(StartsWith("p.toml:6: pair 'send': 'end_key': there is no argument 'arg"),
                      HasSubstr("System V passes arg1 to arg" + std::to_string(max_arguments(false)) +
                                " in registers; Go arg1 to arg" + std::to_string(max_arguments(true)))))
        << key;
  for (const char* key : {"*(arg1+2147483648)", "*(arg1-2147483649)", "*(arg1+0xffffffffffffffffff)"})
    EXPECT_THAT(only_error(pair("send", "end_key = \"" + std::string(key) + "\"\n")),
                HasSubstr("is not between -2147483648 and 2147483647"))
        << key;
}

TEST(PairsFile, ReadsWhatAFunctionReturns)
{
  using Compare = source::Condition::Compare;
  const source::PairSpec keyed = only_pair(pair("send", "begin_key = [\"arg1\", \"ret\"]\nend_key = [\"arg1\", \"arg2\"]\n"));
  EXPECT_EQ(keyed.begins[0].keys[1].argument, source::KeySource::kReturned);
  EXPECT_TRUE(keyed.begins[0].begins_at_return());
  EXPECT_EQ(only_pair(pair("send", "begin_key = \"*(ret+8)\"\n")).begins[0].keys[0].dereferenced_at, 8);

  const auto failed = [](const std::string& text) { return *only_pair(pair("send", "begin_failed = \"" + text + "\"\n")).begins[0].failed; };
  const struct {
    const char* text;
    bool is_int;
    Compare compare;
    std::int64_t than;
  } conditions[] = {{"ret < 0", true, Compare::Less, 0},          {"ret!=0", true, Compare::NotEqual, 0},
                    {"ret >= 0x10", true, Compare::AtLeast, 16},  {"(long)ret == -1", false, Compare::Equal, -1},
                    {"ret == NULL", false, Compare::Equal, 0},    {"(int) *(arg1+8) > 3", true, Compare::More, 3},
                    {"*(arg1) <= 5", false, Compare::AtMost, 5},  {"arg2 == 7", false, Compare::Equal, 7}};
  for (const auto& one : conditions) {
    const source::Condition condition = failed(one.text);
    EXPECT_EQ(condition.is_int, one.is_int) << one.text;
    EXPECT_EQ(condition.compare, one.compare) << one.text;
    EXPECT_EQ(condition.than, one.than) << one.text;
  }
  EXPECT_FALSE(only_pair(pair("send", "begin_failed = \"ret < 0\"\n")).begins[0].begins_at_return());

  const source::PairSpec only_if = only_pair(pair("send", "begin_if = [\"ret > 0\", \"*(arg1+0x12b0) > 0\"]\n"));
  EXPECT_THAT(only_if.begins[0].only_if, SizeIs(2));
  EXPECT_EQ(only_if.begins[0].only_if[1].value.dereferenced_at, 0x12b0);
  EXPECT_TRUE(only_if.begins[0].begins_at_return());
}

TEST(PairsFile, RefusesConditionsThatAreNone)
{
  for (const char* text : {"", "ret", "ret =< 0", "ret < ", "ret < x", "ret < 0 0x", "0 < ret", "ret = 0", "ret <> 0", "(short)ret < 0",
                           "ret < 0xffffffffffffffffff", "ret < --1"})
    EXPECT_THAT(only_error(pair("send", "begin_failed = \"" + std::string(text) + "\"\n")), StartsWith("p.toml:6: pair 'send': 'begin_failed': ")) << text;
  EXPECT_THAT(only_error(pair("send", "begin_failed = 1\n")), HasSubstr("must be a string"));
  EXPECT_THAT(only_error(pair("send", "begin_if = []\n")), HasSubstr("there is room for 1 to 3"));
  EXPECT_THAT(only_error(pair("send", "begin_if = [\"ret > 0\", \"ret > 1\", \"ret > 2\", \"ret > 3\"]\n")), HasSubstr("has 4 conditions"));
  EXPECT_THAT(only_error(pair("send", "begin_if = \"ret > 0\"\nbegin_failed = \"ret < 0\"\n")), HasSubstr("has no use beside"));
  EXPECT_THAT(only_error(pair("send", "end_key = \"ret\"\n")), HasSubstr("only what begins can have"));
  EXPECT_THAT(only_error(with("begin", "\"usdt:a:b\"") + "begin_failed = \"ret < 0\"\n"), HasSubstr("does not return"));
}

TEST(PairsFile, ReadsWhatAFindingSays)
{
  const source::PairSpec spec = only_pair(pair("send", "finds = \"each\"\nwhat = \"sends\"\nadvice = \"send less\"\n"));
  EXPECT_TRUE(spec.each);
  EXPECT_FALSE(spec.never_inlined);
  EXPECT_TRUE(only_pair(pair("send", "never_inlined = true\n")).never_inlined);
  EXPECT_THAT(only_error(pair("send", "never_inlined = \"yes\"\n")), HasSubstr("must be true or false, and is a string"));
  EXPECT_EQ(spec.what, "sends");
  EXPECT_EQ(spec.advice, "send less");
  EXPECT_THAT(only_error(pair("send", "finds = \"all\"\n")), HasSubstr("'finds' is 'all', which is neither 'piles' nor 'each'"));
  EXPECT_THAT(only_error(pair("send", "what = \"" + std::string(64, 'x') + "\"\n")), HasSubstr("at most 63 bytes"));
  EXPECT_THAT(only_error(pair("send", "advice = \"a\\nb\"\n")), HasSubstr("control character"));
}

TEST(PairsFile, PresetsSayWhatTheyCannotSee)
{
  const std::string text = describe_presets();
  for (const PairPreset& preset : pair_presets()) {
    EXPECT_THAT(text, HasSubstr(std::string(preset.name) + "\n  counts  " + preset.counts)) << preset.name;
    for (const source::PairSpec& spec : read_pairs(preset.name).pairs)
      EXPECT_NE(spec.what, "") << preset.name;
  }
}

TEST(PairsFile, NamesWhatIsMissing)
{
  for (const char* key : {"name", "binary", "begin", "end"})
    EXPECT_THAT(only_error("\n\n" + with(key, "")),
                AllOf(StartsWith("p.toml:3: "), EndsWith("'" + std::string(key) + "' is missing")));
}

TEST(PairsFile, NamesWrongTypes)
{
  EXPECT_EQ(only_error(with("name", "7")), "p.toml:5: 'name' must be a string, and is an integer");
  EXPECT_EQ(only_error(with("binary", "true")), "p.toml:5: pair 'send': 'binary' must be a string, and is a boolean");
  EXPECT_EQ(only_error(with("begin", "{ a = 1 }")),
            "p.toml:5: pair 'send': the key 'a' is unknown; known are function, key");
  EXPECT_EQ(only_error(with("end", "[\n\"a\",\n1.5]")),
            "p.toml:7: pair 'send': 'end' must be a string, a table, or a list of these, and is a number");
  EXPECT_EQ(only_error(with("begin_key", "2")),
            "p.toml:6: pair 'send': 'begin_key' must be a string or a list of strings, and is an integer");
  EXPECT_EQ(only_error(with("repeats", "[\"count\"]")),
            "p.toml:6: pair 'send': 'repeats' must be a string, and is a list");
}

TEST(PairsFile, NamesUnknownKeys)
{
  EXPECT_EQ(only_error(pair("send", "bgin_key = \"arg1\"\n")),
            "p.toml:6: pair 'send': the key 'bgin_key' is unknown; known are name, binary, begin, begin_key, "
            "begin_failed, begin_if, end, end_key, abandon, abandon_key, repeats, finds, never_inlined, what, advice");
  const PairsParsed parsed = parse_pairs("interval = 3\n" + pair("send"), "p.toml");
  EXPECT_THAT(parsed.errors,
              ElementsAre("p.toml:1: the key 'interval' is unknown; all there is in a pairs file is [[pair]]"));
  EXPECT_THAT(parsed.pairs, SizeIs(1));
}

TEST(PairsFile, RefusesNames)
{
  EXPECT_EQ(only_pair(pair(std::string(31, 'x'))).name, std::string(31, 'x'));
  for (const std::string& name : {std::string(""), std::string(32, 'x'), std::string("Send"), std::string("a b"),
                                  std::string("ä"), std::string("a_b")})
    EXPECT_THAT(only_error(pair(name)),
                AllOf(StartsWith("p.toml:2: the name '"), EndsWith("must be 1 to 31 of a-z, 0-9 and -")));
}

TEST(PairsFile, WhatComesFromTheFileIsEscaped)
{
  EXPECT_EQ(only_error(pair("a\\u001B[31m\\nb")).find_first_of("\x1b\n"), std::string::npos);
  EXPECT_EQ(only_error(pair("send", "\"a\\u001B\\nb\" = 1\n")).find_first_of("\x1b\n"), std::string::npos);
  EXPECT_EQ(only_error("a\x1b[31m = 1\n").find('\x1b'), std::string::npos);
}

TEST(PairsFile, RefusesASecondPairOfTheName)
{
  const PairsParsed parsed =
      parse_pairs(pair("send") + pair("other") + pair("send", "repeats = \"ignore\"\n"), "p.toml");
  EXPECT_THAT(parsed.errors,
              ElementsAre("p.toml:11: pair 'send': the name is taken by the pair at p.toml:1: give this one another"));
  ASSERT_THAT(parsed.pairs, SizeIs(2));
  EXPECT_FALSE(parsed.pairs[0].ignore_repeats);
}

TEST(PairsFile, MergeRefusesNamesThatAreTaken)
{
  PairsParsed all = parse_pairs(pair("send") + "x = 1\n" + pair("good"), "a.toml");
  merge(all, parse_pairs("\n" + pair("good") + pair("new") + "y = 1\n" + pair("more"), "b.toml"));
  EXPECT_THAT(all.errors,
              ElementsAre(StartsWith("a.toml:6: "), StartsWith("b.toml:12: "),
                          "b.toml:2: pair 'good': the name is taken by the pair at a.toml:7: give this one another"));
  ASSERT_THAT(all.pairs, SizeIs(2));
  EXPECT_EQ(all.pairs[0].origin(), "a.toml:7");
  EXPECT_EQ(all.pairs[1].origin(), "b.toml:13");
}

TEST(PairsFile, RefusesBinaries)
{
  EXPECT_THAT(only_error(with("binary", "\"\"")), StartsWith("p.toml:5: pair 'send': 'binary' is empty"));
  EXPECT_THAT(only_error(with("binary", "\"lib/libfoo.so\"")),
              HasSubstr("'lib/libfoo.so', a relative path: give an absolute one"));
  EXPECT_THAT(only_error(with("binary", "\"/usr/lib/lib*.so\"")), HasSubstr("'*' is for a file name alone"));
  EXPECT_THAT(only_error(with("binary", "\"/usr/lib/a\\u0000b\"")), HasSubstr("control character"));
}

TEST(PairsFile, RefusesFunctions)
{
  EXPECT_EQ(only_error(with("begin", "\"\"")), "p.toml:5: pair 'send': 'begin': the name of a function is empty");
  EXPECT_EQ(only_error(with("end", "[]")), "p.toml:5: pair 'send': 'end' is an empty list: name a function");
  EXPECT_EQ(only_error(with("end", "[\"a\",\n\"\"]")), "p.toml:6: pair 'send': 'end': the name of a function is empty");
  EXPECT_THAT(only_error(with("begin", "\"**\"")), HasSubstr("every function of the program"));
  EXPECT_THAT(only_error(with("begin", "\"a\\nb\"")), HasSubstr("control character"));
  for (const char* probe : {"usdt:", "usdt:a", "usdt::b", "usdt:a:", "usdt:a:b:c"})
    EXPECT_THAT(only_error(with("begin", "\"" + std::string(probe) + "\"")), HasSubstr("usdt:PROVIDER:NAME")) << probe;
}

TEST(PairsFile, RefusesOtherRepeats)
{
  EXPECT_EQ(only_error(with("repeats", "\"once\"")),
            "p.toml:6: pair 'send': 'repeats' is 'once', which is neither 'count' nor 'ignore'");
}

TEST(PairsFile, NamesWhereItIsNoToml)
{
  EXPECT_THAT(only_error(pair("send") + "repeats = \n"), StartsWith("p.toml:6:11: not TOML: "));
  EXPECT_THAT(only_error(pair("send") + "name = \"twice\"\n"), StartsWith("p.toml:6:"));
  EXPECT_THAT(only_error(pair("send") + "# caf\xe9\n"), StartsWith("p.toml:6: this line is not UTF-8"));
  EXPECT_THAT(only_error(std::string("a\0b", 3)), StartsWith("p.toml:1:"));
  std::string deep = "a";
  for (int i = 0; i < 400'000; ++i)
    deep += ".a";
  EXPECT_EQ(only_error("\n" + deep + " = 1\n"), "p.toml:2: this line is longer than 16 KiB");
}

TEST(PairsFile, NamesFilesWithoutPairs)
{
  EXPECT_EQ(only_error(""), "p.toml:1: there is no [[pair]]");
  EXPECT_EQ(only_error("# nothing\n"), "p.toml:1: there is no [[pair]]");
  EXPECT_EQ(only_error("\npair = []\n"), "p.toml:2: there is no [[pair]]");
  EXPECT_EQ(only_error("[pair]\nname = \"a\"\n"), "p.toml:1: 'pair' is a table: write [[pair]], in two brackets");
  EXPECT_EQ(only_error("pair = [1]\n"), "p.toml:1: 'pair' holds an integer: write [[pair]], in two brackets");
}

TEST(PairsFile, TheGoodPairsGoOnAndEveryErrorIsNamed)
{
  const PairsParsed parsed = parse_pairs(
      pair("first") + "\n[[pair]]\nname = \"bad\"\nbinary = \"a/b\"\nbegin = \"\"\nrepeats = \"no\"\n" + pair("last"),
      "p.toml");
  ASSERT_THAT(parsed.pairs, SizeIs(2));
  EXPECT_EQ(parsed.pairs[0].name, "first");
  EXPECT_EQ(parsed.pairs[1].origin(), "p.toml:12");
  EXPECT_THAT(parsed.errors, ElementsAre(StartsWith("p.toml:9: pair 'bad': 'binary' is "),
                                         StartsWith("p.toml:10: pair 'bad': 'begin': "),
                                         StartsWith("p.toml:7: pair 'bad': 'end' is missing"),
                                         StartsWith("p.toml:11: pair 'bad': 'repeats' is 'no'")));
}

TEST(PairsFile, ReadsFiles)
{
  const TemporaryFile file("\xef\xbb\xbf" + pair("send") +
                           "\r\n# CRLF and a byte order mark, as Windows writes them\r\n");
  const PairsParsed parsed = read_pairs(file.path());
  EXPECT_THAT(parsed.errors, IsEmpty());
  ASSERT_THAT(parsed.pairs, SizeIs(1));
  EXPECT_EQ(parsed.pairs[0].origin(), file.path() + ":1");
}

TEST(PairsFile, NamesFilesThatItCannotRead)
{
  EXPECT_THAT(read_pairs("/tmp").errors, ElementsAre("/tmp: a directory, and no pairs file"));
  EXPECT_THAT(read_pairs("/nonexistent/p.toml").errors,
              ElementsAre("'/nonexistent/p.toml': neither a file nor a preset; presets are msquic, quic-go, go-http, openssl, nghttp2, libpq"));
  EXPECT_THAT(read_pairs("/dev/null/p").errors, ElementsAre(StartsWith("/dev/null/p: cannot be opened: ")));
  const TemporaryFile large(pair("send") + std::string(1 << 20, '#'));
  EXPECT_THAT(read_pairs(large.path()).errors, ElementsAre(large.path() + ": larger than 1 MiB, and no pairs file"));
  const TemporaryFile latin(pair("send") + "# \xe4\n");
  EXPECT_THAT(read_pairs(latin.path()).errors, ElementsAre(StartsWith(latin.path() + ":6: this line is not UTF-8")));
}

TEST(PairsFile, PresetsAreGoodFiles)
{
  EXPECT_EQ(preset_names(), "msquic, quic-go, go-http, openssl, nghttp2, libpq");
  PairsParsed all;
  for (const PairPreset& preset : pair_presets()) {
    PairsParsed parsed = read_pairs(preset.name);
    EXPECT_THAT(parsed.errors, IsEmpty());
    EXPECT_THAT(parsed.pairs, SizeIs(testing::Ge(1U)));
    for (const source::PairSpec& spec : parsed.pairs)
      EXPECT_THAT(spec.origin(), StartsWith("preset " + std::string(preset.name) + ":"));
    merge(all, std::move(parsed));
  }
  EXPECT_THAT(all.errors, IsEmpty());  // names are unique among them, so that several can be asked for at once
}

TEST(PairsFile, AFileGoesBeforeThePresetOfItsName)
{
  const std::filesystem::path before = std::filesystem::current_path();
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("laggard-pairs-directory-" + std::to_string(::getpid()));
  std::filesystem::create_directory(directory);
  std::filesystem::current_path(directory);
  std::ofstream("msquic") << pair("mine");
  const PairsParsed parsed = read_pairs("msquic");
  std::filesystem::current_path(before);
  std::filesystem::remove_all(directory);
  ASSERT_THAT(parsed.pairs, SizeIs(1));
  EXPECT_EQ(parsed.pairs[0].origin(), "msquic:1");
}

}  // namespace
}  // namespace laggard::cli
