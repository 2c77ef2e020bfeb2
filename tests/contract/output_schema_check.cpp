// SPDX-License-Identifier: MIT
#include "contract/output_schema_check.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

namespace laggard::test {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxLineBytes = 8000;
constexpr std::array<std::string_view, 4> kFirstKeys = {"timestamp", "severity", "event.name", "message"};

bool has_type(const json& value, const std::string& type)
{
  if (type == "object")
    return value.is_object();
  if (type == "array")
    return value.is_array();
  if (type == "string")
    return value.is_string();
  if (type == "boolean")
    return value.is_boolean();
  if (type == "integer")
    return value.is_number_integer() || (value.is_number_float() && value == json(std::int64_t(value.get<double>())));
  if (type == "number")
    return value.is_number();
  return type == "null" && value.is_null();
}

// Compiling the pattern of a timestamp costs more than everything else about a line.
bool matches(const std::string& text, const std::string& pattern)
{
  static std::map<std::string, std::regex> cache;
  auto known = cache.find(pattern);
  if (known == cache.end())
    known = cache.emplace(pattern, std::regex(pattern)).first;
  return std::regex_search(text, known->second);
}

class Validator {
 public:
  explicit Validator(const json& root) : root_(root) {}
  std::vector<std::string> violations;

  void validate(const json& schema, const json& value, const std::string& where)
  {
    if (schema.is_boolean()) {
      if (!schema.get<bool>())
        report(where, "is not allowed here");
      return;
    }
    for (const auto& [keyword, argument] : schema.items())
      apply(keyword, argument, schema, value, where);
  }

 private:
  void report(const std::string& where, const std::string& what)
  {
    violations.push_back((where.empty() ? "line" : where) + " " + what);
  }

  bool passes(const json& schema, const json& value) const
  {
    Validator quiet(root_);
    quiet.validate(schema, value, "");
    return quiet.violations.empty();
  }

  void apply(const std::string& keyword, const json& argument, const json& schema, const json& value,
             const std::string& where)
  {
    static const std::set<std::string> kSaysNothing = {"$schema", "$id", "$defs", "$comment", "title", "description",
                                                       "then",    "else"};  // the latter two: with "if"
    if (kSaysNothing.contains(keyword))
      return;
    if (keyword == "$ref")
      validate(root_.at(json::json_pointer(argument.get<std::string>().substr(1))), value, where);
    else if (keyword == "type") {
      if (!has_type(value, argument.get<std::string>()))
        report(where, "is not of type " + argument.get<std::string>() + ": " + value.dump());
    } else if (keyword == "const") {
      if (value != argument)
        report(where, "is not " + argument.dump() + ": " + value.dump());
    } else if (keyword == "enum") {
      if (std::ranges::find(argument, value) == argument.end())
        report(where, "is not one of " + argument.dump() + ": " + value.dump());
    } else if (keyword == "allOf") {
      for (const json& part : argument)
        validate(part, value, where);
    } else if (keyword == "if") {
      const char* branch = passes(argument, value) ? "then" : "else";
      if (schema.contains(branch))
        validate(schema[branch], value, where);
    } else if (!apply_to_string(keyword, argument, value, where) && !apply_to_number(keyword, argument, value, where) &&
               !apply_to_array(keyword, argument, value, where) &&
               !apply_to_object(keyword, argument, schema, value, where))
      report("the schema keyword " + keyword, "is not known to this validator");
  }

  bool apply_to_string(const std::string& keyword, const json& argument, const json& value, const std::string& where)
  {
    if (keyword == "pattern") {
      if (value.is_string() && !matches(value.get<std::string>(), argument.get<std::string>()))
        report(where, "does not match " + argument.dump() + ": " + value.dump());
      return true;
    }
    if (keyword == "minLength") {
      if (value.is_string() && value.get_ref<const std::string&>().size() < argument.get<std::size_t>())
        report(where, "is too short");
      return true;
    }
    return false;
  }

  bool apply_to_number(const std::string& keyword, const json& argument, const json& value, const std::string& where)
  {
    if (keyword != "minimum" && keyword != "maximum")
      return false;
    if (value.is_number() && (keyword == "minimum" ? value < argument : value > argument))
      report(where, "is beyond the " + keyword + " of " + argument.dump() + ": " + value.dump());
    return true;
  }

  bool apply_to_array(const std::string& keyword, const json& argument, const json& value, const std::string& where)
  {
    if (keyword == "items") {
      for (std::size_t i = 0; value.is_array() && i < value.size(); i++)
        validate(argument, value[i], where + "[" + std::to_string(i) + "]");
      return true;
    }
    if (keyword != "minItems" && keyword != "maxItems")
      return false;
    if (value.is_array() && (keyword == "minItems" ? value.size() < argument : value.size() > argument))
      report(where, "has " + std::to_string(value.size()) + " items, beyond the " + keyword + " of " + argument.dump());
    return true;
  }

  bool apply_to_object(const std::string& keyword, const json& argument, const json& schema, const json& value,
                       const std::string& where)
  {
    if (keyword == "required") {
      require(argument, value, where, "");
    } else if (keyword == "dependentRequired") {
      for (const auto& [key, others] : argument.items())
        if (value.is_object() && value.contains(key))
          require(others, value, where, " beside " + key);
    } else if (keyword == "properties") {
      for (const auto& [key, part] : argument.items())
        if (value.is_object() && value.contains(key))
          validate(part, value[key], key);
    } else if (keyword == "patternProperties") {
      for (const auto& [pattern, part] : argument.items())
        for (const auto& [key, member] : value.items())
          if (matches(key, pattern))
            validate(part, member, key);
    } else if (keyword == "additionalProperties") {
      for (const auto& [key, member] : value.items())
        if (!is_listed(key, schema))
          validate(argument, member, key);
    } else {
      return false;
    }
    return true;
  }

  void require(const json& keys, const json& value, const std::string& where, const std::string& why)
  {
    for (const json& key : keys)
      if (value.is_object() && !value.contains(key.get<std::string>()))
        report(where, "lacks " + key.get<std::string>() + why);
  }

  static bool is_listed(const std::string& key, const json& schema)
  {
    if (schema.contains("properties") && schema["properties"].contains(key))
      return true;
    const json patterns = schema.value("patternProperties", json::object());
    return std::ranges::any_of(patterns.items(), [&](const auto& item) { return matches(key, item.key()); });
  }

  const json& root_;
};

void check_bytes(std::string_view line, std::vector<std::string>& violations)
{
  if (line.size() + 1 > kMaxLineBytes)
    violations.push_back("the line has " + std::to_string(line.size() + 1) + " bytes with its newline");
  for (std::size_t i = 0; i < line.size(); i++) {
    const auto byte = [&](std::size_t k) { return k < line.size() ? static_cast<unsigned char>(line[k]) : 0; };
    const bool c1 = byte(i) == 0xc2 && byte(i + 1) >= 0x80 && byte(i + 1) <= 0x9f;
    // U+2028 to U+202E and U+2066 to U+2069
    const bool bidi = byte(i) == 0xe2 && ((byte(i + 1) == 0x80 && byte(i + 2) >= 0xa8 && byte(i + 2) <= 0xae) ||
                                          (byte(i + 1) == 0x81 && byte(i + 2) >= 0xa6 && byte(i + 2) <= 0xa9));
    if (byte(i) < 0x20 || byte(i) == 0x7f || c1 || bidi)
      violations.push_back("a raw control character stands at byte " + std::to_string(i));
  }
}

void check_keys(const std::vector<std::string>& keys, std::vector<std::string>& violations)
{
  for (std::size_t i = 0; i < kFirstKeys.size(); i++)
    if (i >= keys.size() || keys[i] != kFirstKeys[i])
      violations.push_back("key " + std::to_string(i + 1) + " is not " + std::string(kFirstKeys[i]));
  const std::set<std::string> unique(keys.begin(), keys.end());
  if (unique.size() != keys.size())
    violations.push_back("a key stands twice in the line");
  for (const std::string& key : unique)
    for (std::size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1))
      if (unique.contains(key.substr(0, dot)))
        violations.push_back("the key " + key.substr(0, dot) + " is the prefix object of " + key);
}

}  // namespace

std::string OutputSchema::shipped_path()
{
  // Where the source tree is not at hand: in an emulated machine.
  if (const char* path = std::getenv("LAGGARD_SCHEMA"); path != nullptr)
    return path;
  return (std::filesystem::path(__FILE__).parent_path() / "../../userspace/output/laggard.schema.json").string();
}

OutputSchema::OutputSchema(const std::string& path)
{
  std::ifstream file(path);
  schema_ = json::parse(file, nullptr, false);
  if (!file.is_open())
    unreadable_ = "cannot read " + path;
  else if (!schema_.is_object())
    unreadable_ = path + " is not a JSON object";
}

std::vector<std::string> OutputSchema::validate(const json& instance) const
{
  if (!unreadable_.empty())
    return {unreadable_};
  Validator validator(schema_);
  validator.validate(schema_, instance, "");
  return validator.violations;
}

std::vector<std::string> OutputSchema::check(std::string_view line) const
{
  std::vector<std::string> violations;
  check_bytes(line, violations);
  std::vector<std::string> keys;
  const auto collect = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1)
      keys.push_back(parsed.get<std::string>());
    if (event == json::parse_event_t::object_start && depth > 0)
      violations.push_back("the object is not flat");
    return true;
  };
  // Refuses invalid UTF-8, too.
  const json instance = json::parse(line, collect, false);
  if (!instance.is_object()) {
    violations.push_back("the line is not a JSON object in UTF-8");
    return violations;
  }
  check_keys(keys, violations);
  const std::vector<std::string> of_schema = validate(instance);
  violations.insert(violations.end(), of_schema.begin(), of_schema.end());
  return violations;
}

}  // namespace laggard::test
