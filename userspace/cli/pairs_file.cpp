// SPDX-License-Identifier: MIT
#include "cli/pairs_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <optional>

#include "base/fd.h"
#include "base/result.h"
#include "output/escape.h"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace laggard::cli {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxLineBytes = std::size_t{16} << 10;
constexpr std::size_t kMaxNameBytes = 31;  // with its NUL it has 32 bytes in the kernel's map
constexpr std::size_t kMaxKeyParts = 2;
constexpr std::array<std::string_view, 15> kKeys = {"name",    "binary",  "begin",       "begin_key", "begin_failed", "begin_if",      "end",
                                                    "end_key", "abandon", "abandon_key", "repeats",   "finds",        "never_inlined", "what",
                                                    "advice"};
constexpr std::array<std::string_view, 2> kProbeKeys = {"function", "key"};
constexpr std::size_t kMaxOnlyIf = 3;       // and that what is returned is not NULL
constexpr std::size_t kMaxWhatBytes = 63, kMaxAdviceBytes = 191;  // LAGGARD_RECORD_PAIR

std::string quoted(std::string_view text) { return fmt::format("'{}'", output::visible(text)); }

std::string type_name(const toml::node& node)
{
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a number";
    case toml::node_type::boolean: return "a boolean";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time: return "a date or time";
    case toml::node_type::none: break;
  }
  return "nothing";
}

std::uint32_t line_of(const toml::node& node) { return node.source().begin.line; }

// What toml++ should not be given: bytes that are not UTF-8, and lines so long that a key in one could be dotted deeper
// than its recursion has stack for.
struct RefusedLine {
  std::uint32_t line;
  const char* why;
};
std::optional<RefusedLine> refused_line(std::string_view text)
{
  std::uint32_t line = 1;
  std::size_t bytes_in_line = 0;
  while (!text.empty()) {
    const output::CodePoint point = output::decode_utf8(text);
    if (!point.valid)
      return RefusedLine{line, "this line is not UTF-8, which TOML is"};
    bytes_in_line += point.bytes;
    if (bytes_in_line > kMaxLineBytes)
      return RefusedLine{line, "this line is longer than 16 KiB"};
    if (point.value == U'\n') {
      ++line;
      bytes_in_line = 0;
    }
    text.remove_prefix(point.bytes);
  }
  return std::nullopt;
}

bool has_controls(std::string_view text)
{
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
}

// "56", "0x38"; what is more than 64 bits have is their largest. Empty: no number.
std::optional<std::uint64_t> parse_number(std::string_view text)
{
  const bool hexadecimal = text.starts_with("0x");
  if (hexadecimal)
    text.remove_prefix(2);
  std::uint64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number, hexadecimal ? 16 : 10);
  if (end != text.data() + text.size() || status == std::errc::invalid_argument)
    return std::nullopt;
  return status == std::errc{} ? number : UINT64_MAX;
}

// "arg2", "ret", "*(arg2+56)", "*(arg2 - 0x8)".
struct KeyText {
  std::optional<source::KeySource> key;
  std::string error;
};

KeyText parse_key(std::string_view value)
{
  const auto malformed = [&] {
    return KeyText{{},
                   fmt::format("{} is neither an argument, such as arg2, nor the 8 bytes where one points to, such as "
                               "*(arg2+56), nor what is returned, ret",
                               quoted(value))};
  };
  std::string compact{value};
  std::erase(compact, ' ');
  std::string_view rest = compact;
  source::KeySource key;
  const bool dereferenced = rest.starts_with("*(") && rest.ends_with(")");
  if (dereferenced)
    rest = rest.substr(2, rest.size() - 3);
  if (rest.starts_with("ret")) {
    key.argument = source::KeySource::kReturned;
    rest.remove_prefix(3);
  } else {
    if (!rest.starts_with("arg"))
      return malformed();
    rest.remove_prefix(3);
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (digits == 0)
      return malformed();
    const unsigned limit = max_arguments(true);
    const auto [end, status] = std::from_chars(rest.data(), rest.data() + digits, key.argument);
    if (status != std::errc{} || key.argument < 1 || key.argument > limit)
      return {{},
              fmt::format("there is no argument {}: System V passes arg1 to arg{} in registers; Go arg1 to arg{}",
                          quoted("arg" + std::string(rest.substr(0, digits))), max_arguments(false), limit)};
    rest.remove_prefix(digits);
  }
  if (!dereferenced)
    return rest.empty() ? KeyText{key, {}} : malformed();
  if (rest.empty()) {
    key.dereferenced_at = 0;
    return {key, {}};
  }
  const bool negative = rest.front() == '-';
  if (!negative && rest.front() != '+')
    return malformed();
  rest.remove_prefix(1);
  constexpr std::uint64_t kLargest = 0x7fffffff;
  const auto magnitude = parse_number(rest);
  if (!magnitude)
    return malformed();
  if (*magnitude > kLargest + (negative ? 1 : 0))
    return {{}, fmt::format("the offset in {} is not between -2147483648 and 2147483647", quoted(value))};
  const auto signed_offset = static_cast<std::int64_t>(*magnitude);
  key.dereferenced_at = static_cast<std::int32_t>(negative ? -signed_offset : signed_offset);
  return {key, {}};
}

// "ret < 0", "(long)ret == -1", "ret == NULL", "*(arg1+4784) > 0". What a function returns is an int, if nothing says otherwise.
struct ConditionText {
  std::optional<source::Condition> condition;
  std::string error;
};

ConditionText parse_condition(std::string_view value)
{
  using Compare = source::Condition::Compare;
  static constexpr std::pair<std::string_view, Compare> kCompares[] = {
      {"==", Compare::Equal}, {"!=", Compare::NotEqual}, {"<=", Compare::AtMost}, {">=", Compare::AtLeast}, {"<", Compare::Less}, {">", Compare::More}};
  const auto malformed = [&] {
    return ConditionText{{}, fmt::format("{} is no condition, such as ret < 0, ret == NULL, (long)ret == -1 or *(arg1+8) > 0", quoted(value))};
  };
  std::string compact{value};
  std::erase(compact, ' ');
  std::string_view rest = compact;
  const bool as_int = rest.starts_with("(int)"), as_long = rest.starts_with("(long)");
  rest.remove_prefix(as_int ? 5 : as_long ? 6 : 0);
  const std::size_t at = rest.find_first_of("=!<>");
  if (at == rest.npos)
    return malformed();
  source::Condition condition;
  const auto compare = std::ranges::find_if(kCompares, [&](const auto& one) { return rest.substr(at).starts_with(one.first); });
  if (compare == std::end(kCompares))
    return malformed();
  condition.compare = compare->second;
  KeyText left = parse_key(rest.substr(0, at));
  if (!left.key)
    return {{}, std::move(left.error)};
  condition.value = *left.key;
  rest = rest.substr(at + compare->first.size());
  const bool is_null = rest == "NULL";
  const bool negative = rest.starts_with('-');
  const auto number = is_null ? std::optional<std::uint64_t>{0} : parse_number(rest.substr(negative ? 1 : 0));
  if (!number || *number > std::uint64_t{1} << 62)
    return malformed();
  condition.than = negative ? -static_cast<std::int64_t>(*number) : static_cast<std::int64_t>(*number);
  condition.is_int = as_int || (!as_long && !is_null && condition.value.argument == source::KeySource::kReturned && !condition.value.dereferenced_at);
  return {condition, {}};
}

// What is wrong with one entry of `begin` or `end`; empty: nothing.
std::string function_error(std::string_view function)
{
  if (function.empty())
    return "the name of a function is empty";
  if (has_controls(function))
    return fmt::format("{} is no name of a function: it has a control character", quoted(function));
  if (function.starts_with(source::kUsdt)) {
    const std::string_view probe = function.substr(source::kUsdt.size());
    const std::size_t colon = probe.find(':');
    if (colon == probe.npos || colon == 0 || colon + 1 == probe.size() || probe.find(':', colon + 1) != probe.npos)
      return fmt::format("{} is no USDT probe: it takes the form usdt:PROVIDER:NAME", quoted(function));
  } else if (function.find_first_not_of('*') == function.npos) {
    return fmt::format("{} would be every function of the program: write a part of the name, too", quoted(function));
  }
  return {};
}

// One [[pair]]: collects all that is wrong with it.
class PairReader {
 public:
  PairReader(const toml::table& table, const std::string& file, std::vector<std::string>& errors)
      : table_(table), file_(file), errors_(errors)
  {
    pair_.file = file;
    pair_.line = line_of(table);
  }

  std::optional<source::PairSpec> read()
  {
    const std::size_t errors_before = errors_.size();
    read_name();  // first: the other errors name the pair
    refuse_unknown_keys();
    read_binary();
    pair_.begins = read_probes("begin", "begin_key");
    pair_.ends = read_probes("end", "end_key");
    if (table_.contains("abandon"))
      pair_.abandons = read_probes("abandon", "abandon_key");
    pair_.ignore_repeats = read_choice("repeats", "count", "ignore");
    pair_.each = read_choice("finds", "piles", "each");
    pair_.never_inlined = read_switch("never_inlined");
    pair_.what = read_text("what", kMaxWhatBytes);
    pair_.advice = read_text("advice", kMaxAdviceBytes);
    read_conditions();
    compare_returns();
    if (errors_.size() == errors_before)
      compare_key_parts();
    if (errors_.size() != errors_before)
      return std::nullopt;
    return std::move(pair_);
  }

 private:
  void fail(std::uint32_t line, const std::string& what)
  {
    errors_.push_back(fmt::format("{}:{}: {}{}", file_, line, title_, what));
  }

  const toml::node* required(std::string_view key)
  {
    const toml::node* node = table_.get(key);
    if (node == nullptr)
      fail(pair_.line, fmt::format("'{}' is missing", key));
    return node;
  }

  std::optional<std::string> string(std::string_view key, const toml::node& node, std::string_view wanted = "a string")
  {
    if (const auto* value = node.as_string())
      return value->get();
    fail(line_of(node), fmt::format("'{}' must be {}, and is {}", key, wanted, type_name(node)));
    return std::nullopt;
  }

  void refuse_unknown_keys()
  {
    for (const auto& [key, node] : table_) {
      if (std::ranges::find(kKeys, key.str()) == kKeys.end())
        fail(key.source().begin.line,
             fmt::format("the key {} is unknown; known are {}", quoted(key.str()), fmt::join(kKeys, ", ")));
    }
  }

  void read_name()
  {
    const toml::node* node = required("name");
    const auto name = node != nullptr ? string("name", *node) : std::nullopt;
    if (!name)
      return;
    constexpr auto kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789-";
    if (name->empty() || name->size() > kMaxNameBytes || name->find_first_not_of(kAllowed) != name->npos) {
      fail(line_of(*node), fmt::format("the name {} must be 1 to {} of a-z, 0-9 and -", quoted(*name), kMaxNameBytes));
      return;
    }
    pair_.name = *name;
    title_ = fmt::format("pair '{}': ", *name);
  }

  void read_binary()
  {
    const toml::node* node = required("binary");
    const auto binary = node != nullptr ? string("binary", *node) : std::nullopt;
    if (!binary)
      return;
    const bool absolute = binary->starts_with('/');
    if (binary->empty())
      fail(line_of(*node), "'binary' is empty: give an absolute path or a file name");
    else if (has_controls(*binary))
      fail(line_of(*node), fmt::format("'binary' is {}, which has a control character", quoted(*binary)));
    else if (!absolute && binary->find('/') != binary->npos)
      fail(line_of(*node), fmt::format("'binary' is {}, a relative path: give an absolute one, or the file name alone",
                                       quoted(*binary)));
    else if (absolute && binary->find('*') != binary->npos)
      fail(line_of(*node),
           fmt::format("'binary' is {}: '*' is for a file name alone, an absolute path is one file", quoted(*binary)));
    else
      pair_.binary = *binary;
  }

  // "arg1", or ["arg3", "arg1"] for a key of two parts.
  std::vector<source::KeySource> read_keys(std::string_view what, const toml::node& node)
  {
    std::vector<source::KeySource> keys;
    const auto add = [&](const toml::node& entry) {
      const auto value = string(what, entry, "a string or a list of strings");
      if (!value)
        return;
      const KeyText parsed = parse_key(*value);
      if (parsed.key)
        keys.push_back(*parsed.key);
      else
        fail(line_of(entry), fmt::format("'{}': {}", what, parsed.error));
    };
    const toml::array* list = node.as_array();
    if (list == nullptr) {
      add(node);
      return keys;
    }
    if (list->empty() || list->size() > kMaxKeyParts)
      fail(line_of(node), fmt::format("'{}' has {} parts: a key has one or two", what, list->size()));
    for (const toml::node& entry : *list)
      add(entry);
    return keys;
  }

  std::vector<source::ProbeSpec> read_probes(std::string_view what, std::string_view key_name)
  {
    std::vector<source::ProbeSpec> probes;
    const toml::node* node = required(what);
    if (node == nullptr)
      return probes;
    std::vector<source::KeySource> keys = {source::KeySource{}};
    if (const toml::node* key = table_.get(key_name))
      keys = read_keys(key_name, *key);
    const toml::array* list = node->as_array();
    if (list == nullptr) {
      read_probe(what, *node, keys, probes);
      return probes;
    }
    if (list->empty())
      fail(line_of(*node), fmt::format("'{}' is an empty list: name a function", what));
    for (const toml::node& entry : *list)
      read_probe(what, entry, keys, probes);
    return probes;
  }

  // A string, or {function = "...", key = "..."} where one function has its key elsewhere.
  void read_probe(std::string_view what, const toml::node& entry, const std::vector<source::KeySource>& keys,
                  std::vector<source::ProbeSpec>& probes)
  {
    source::ProbeSpec probe{.function = {}, .keys = keys, .line = line_of(entry)};
    const toml::node* function = &entry;
    if (const toml::table* table = entry.as_table()) {
      for (const auto& [key, _] : *table)
        if (std::ranges::find(kProbeKeys, key.str()) == kProbeKeys.end())
          return fail(key.source().begin.line,
                      fmt::format("the key {} is unknown; known are {}", quoted(key.str()), fmt::join(kProbeKeys, ", ")));
      function = table->get("function");
      if (function == nullptr)
        return fail(probe.line, fmt::format("'{}': 'function' is missing", what));
      if (const toml::node* key = table->get("key"))
        probe.keys = read_keys("key", *key);
    }
    const auto name = string(what, *function, "a string, a table, or a list of these");
    if (!name)
      return;
    probe.function = *name;
    if (const std::string error = function_error(probe.function); !error.empty())
      return fail(probe.line, fmt::format("'{}': {}", what, error));
    probes.push_back(std::move(probe));
  }

  // What begins with one kind of key never ends with another.
  void compare_key_parts()
  {
    const std::size_t parts = pair_.begins.front().keys.size();
    for (const auto* probes : {&pair_.begins, &pair_.ends})
      for (const source::ProbeSpec& probe : *probes)
        if (probe.keys.size() != parts)
          fail(probe.line, fmt::format("'{}' has a key of {} parts, and '{}' of {}: they never match", probe.function, probe.keys.size(),
                                       pair_.begins.front().function, parts));
    for (const source::ProbeSpec& probe : pair_.abandons)
      if (probe.keys.size() != 1 || parts != 2)
        fail(probe.line, fmt::format("'{}' abandons by the first part of keys that have two, itself it has one", probe.function));
  }

  // Whether it is the second of two words.
  bool read_choice(std::string_view key, std::string_view first, std::string_view second)
  {
    const toml::node* node = table_.get(key);
    const auto word = node != nullptr ? string(key, *node) : std::nullopt;
    if (word && *word != first && *word != second)
      fail(line_of(*node), fmt::format("'{}' is {}, which is neither '{}' nor '{}'", key, quoted(*word), first, second));
    return word && *word == second;
  }

  bool read_switch(std::string_view key)
  {
    const toml::node* node = table_.get(key);
    if (node != nullptr && !node->is_boolean())
      fail(line_of(*node), fmt::format("'{}' must be true or false, and is {}", key, type_name(*node)));
    return node != nullptr && node->value_or(false);
  }

  std::string read_text(std::string_view key, std::size_t most)
  {
    const toml::node* node = table_.get(key);
    const auto text = node != nullptr ? string(key, *node) : std::nullopt;
    if (!text)
      return {};
    if (text->size() > most || has_controls(*text))
      fail(line_of(*node), fmt::format("'{}' must be at most {} bytes, none of them a control character", key, most));
    return *text;
  }

  // Of all begins.
  void read_conditions()
  {
    std::vector<source::Condition> only_if;
    std::optional<source::Condition> failed;
    const auto read = [&](std::string_view key, const toml::node& entry) -> std::optional<source::Condition> {
      const auto text = string(key, entry);
      if (!text)
        return std::nullopt;
      ConditionText parsed = parse_condition(*text);
      if (!parsed.condition)
        fail(line_of(entry), fmt::format("'{}': {}", key, parsed.error));
      return parsed.condition;
    };
    if (const toml::node* node = table_.get("begin_failed"))
      failed = read("begin_failed", *node);
    if (const toml::node* node = table_.get("begin_if")) {
      const toml::array* list = node->as_array();
      if (list != nullptr && (list->empty() || list->size() > kMaxOnlyIf))
        fail(line_of(*node), fmt::format("'begin_if' has {} conditions: there is room for 1 to {}", list->size(), kMaxOnlyIf));
      for (std::size_t i = 0; i < (list != nullptr ? list->size() : 1); i++)
        if (auto condition = read("begin_if", list != nullptr ? *list->get(i) : *node))
          only_if.push_back(*condition);
      if (failed)
        fail(line_of(*node), "'begin_failed' has no use beside 'begin_if': say there what must hold");
    }
    for (source::ProbeSpec& probe : pair_.begins) {
      probe.only_if = only_if;
      probe.failed = failed;
      if ((failed || probe.begins_at_return()) && probe.function.starts_with(source::kUsdt))
        fail(probe.line, fmt::format("{} is a USDT probe, which does not return", quoted(probe.function)));
    }
  }

  // What ends is asked for at an entry.
  void compare_returns()
  {
    for (const auto* probes : {&pair_.ends, &pair_.abandons})
      for (const source::ProbeSpec& probe : *probes)
        if (probe.begins_at_return())
          fail(probe.line, fmt::format("'{}': only what begins can have what is returned, ret, in its key", probe.function));
  }

  const toml::table& table_;
  const std::string& file_;
  std::vector<std::string>& errors_;
  std::string title_;
  source::PairSpec pair_;
};

void add_pair(PairsParsed& into, source::PairSpec pair)
{
  const auto taken = std::ranges::find(into.pairs, pair.name, &source::PairSpec::name);
  if (taken == into.pairs.end())
    into.pairs.push_back(std::move(pair));
  else
    into.errors.push_back(fmt::format("{}: pair '{}': the name is taken by the pair at {}: give this one another",
                                      pair.origin(), pair.name, taken->origin()));
}

Result<std::string> read_text(const std::string& path)
{
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (!file) {
    if (errno == ENOENT)
      return failure(fmt::format("{}: neither a file nor a preset; presets are {}", quoted(path), preset_names()));
    return errno_failure(fmt::format("{}: cannot be opened", output::visible(path)));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISDIR(status.st_mode))
    return failure(fmt::format("{}: a directory, and no pairs file", output::visible(path)));
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return errno_failure(fmt::format("{}: cannot be read", output::visible(path)));
    if (count == 0)
      return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > kMaxFileBytes)
      return failure(fmt::format("{}: larger than 1 MiB, and no pairs file", output::visible(path)));
  }
}

}  // namespace

unsigned max_arguments(bool go)
{
#if defined(__aarch64__)
  return go ? 16 : 8;  // AAPCS64: x0 to x7; Go's internal/abi: R0 to R15
#else
  return go ? 9 : 6;  // psABI: rdi rsi rdx rcx r8 r9; Go's internal/abi: RAX RBX RCX RDI RSI R8 R9 R10 R11
#endif
}

PairsParsed parse_pairs(std::string_view text, const std::string& name)
{
  PairsParsed parsed;
  const std::string shown = output::visible(name);
  const auto fail = [&](std::uint32_t line, const std::string& what) {
    parsed.errors.push_back(fmt::format("{}:{}: {}", shown, line, what));
  };
  if (const auto refused = refused_line(text)) {
    fail(refused->line, refused->why);
    return parsed;
  }
  const toml::parse_result result = toml::parse(text);
  if (!result) {
    const toml::source_position at = result.error().source().begin;
    parsed.errors.push_back(fmt::format("{}:{}:{}: not TOML: {}", shown, at.line, at.column,
                                        output::visible(result.error().description())));
    return parsed;
  }
  const toml::table& root = result.table();
  for (const auto& [key, node] : root)
    if (key.str() != "pair")
      fail(key.source().begin.line,
           fmt::format("the key {} is unknown; all there is in a pairs file is [[pair]]", quoted(key.str())));
  const toml::node* pairs = root.get("pair");
  const toml::array* list = pairs != nullptr ? pairs->as_array() : nullptr;
  if (pairs != nullptr && list == nullptr)
    fail(line_of(*pairs), fmt::format("'pair' is {}: write [[pair]], in two brackets", type_name(*pairs)));
  else if (list == nullptr || list->empty())
    fail(pairs != nullptr ? line_of(*pairs) : 1, "there is no [[pair]]");
  if (list == nullptr)
    return parsed;
  for (const toml::node& node : *list) {
    const toml::table* table = node.as_table();
    if (table == nullptr)
      fail(line_of(node), fmt::format("'pair' holds {}: write [[pair]], in two brackets", type_name(node)));
    else if (auto pair = PairReader(*table, shown, parsed.errors).read())
      add_pair(parsed, std::move(*pair));
  }
  return parsed;
}

PairsParsed read_pairs(const std::string& file_or_preset)
{
  const auto preset = std::ranges::find(pair_presets(), std::string_view(file_or_preset), &PairPreset::name);
  if (preset != pair_presets().end() && ::access(file_or_preset.c_str(), F_OK) != 0)
    return parse_pairs(preset->text, fmt::format("preset {}", file_or_preset));
  const Result<std::string> text = read_text(file_or_preset);
  if (!text)
    return {{}, {text.error().message()}};
  return parse_pairs(*text, file_or_preset);
}

void merge(PairsParsed& into, PairsParsed from)
{
  std::ranges::move(from.errors, std::back_inserter(into.errors));
  for (source::PairSpec& pair : from.pairs)
    add_pair(into, std::move(pair));
}

std::string preset_names()
{
  std::string names;
  for (const PairPreset& preset : pair_presets())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", preset.name);
  return names;
}

std::string describe_presets()
{
  std::string text;
  for (const PairPreset& preset : pair_presets())
    text += fmt::format("{}{}\n  counts  {}\n  tried   {}\n  unseen  {}\n  cost    {}", text.empty() ? "" : "\n\n", preset.name, preset.counts,
                        preset.tried, preset.unseen, preset.cost);
  return text;
}

}  // namespace laggard::cli
