// SPDX-License-Identifier: MIT
// key=value pairs; quoted values escape as JSON does. There are no arrays: numbers are joined with ",", texts with "; ".
#include <fmt/format.h>

#include <algorithm>

#include "output/escape.h"
#include "output/fields.h"
#include "output/wording.h"

namespace laggard::output {
namespace {

bool is_bare(std::string_view text)
{
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
  });
}

struct Render {
  std::string& out;

  void operator()(const std::string& value) const
  {
    if (is_bare(value))
      out += value;
    else
      append_json_string(out, value);
  }
  void operator()(std::uint64_t value) const { out += fmt::format_int(value).str(); }
  void operator()(double value) const { append_number(out, value); }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  void operator()(const std::vector<std::string>& values) const { (*this)(join(values, "; ")); }
  void operator()(const std::vector<std::uint64_t>& values) const
  {
    (*this)(fmt::format("{}", fmt::join(values, ",")));
  }
};

}  // namespace

void render_logfmt(const Fields& fields, std::string& out)
{
  for (const OutputField& field : fields) {
    if (&field != &fields.front())
      out += ' ';
    out += field.prefix;
    out += field.name;
    out += '=';
    std::visit(Render{out}, field.value);
  }
}

}  // namespace laggard::output
