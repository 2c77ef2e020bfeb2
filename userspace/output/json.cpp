// SPDX-License-Identifier: MIT
// One flat object per line. Our own writer: 50 000 snapshot lines must not take longer to print than to collect.
#include <fmt/format.h>

#include <iterator>

#include "output/escape.h"
#include "output/fields.h"

namespace laggard::output {
namespace {

struct Render {
  std::string& out;

  void operator()(const std::string& value) const { append_json_string(out, value); }
  void operator()(std::uint64_t value) const { out += fmt::format_int(value).str(); }
  void operator()(double value) const { append_number(out, value); }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  template <class T>
  void operator()(const std::vector<T>& values) const
  {
    out += '[';
    for (std::size_t i = 0; i < values.size(); i++) {
      if (i > 0)
        out += ',';
      (*this)(values[i]);
    }
    out += ']';
  }
};

}  // namespace

void append_number(std::string& out, double value)
{
  const std::size_t start = out.size();
  fmt::format_to(std::back_inserter(out), "{}", value);
  // 5 and 5.1 must not be of two types to a reader that guesses the type of a field from the first line it sees.
  if (out.find_first_of(".e", start) == std::string::npos)
    out += ".0";
}

void render_json(const Fields& fields, std::string& out)
{
  char separator = '{';
  for (const OutputField& field : fields) {
    out += separator;
    separator = ',';
    out += '"';
    out += field.prefix;
    out += field.name;
    out += "\":";
    std::visit(Render{out}, field.value);
  }
  out += '}';
}

}  // namespace laggard::output
