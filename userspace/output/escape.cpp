// SPDX-License-Identifier: MIT
#include "output/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace laggard::output {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// General categories Cc, Cf, Zl and Zp as far as terminals and log viewers act on them or show nothing.
constexpr std::array kUnprintable = {
    Range{0x00, 0x1f},     Range{0x7f, 0x9f},     Range{0xad, 0xad},     Range{0x61c, 0x61c},
    Range{0x180e, 0x180e}, Range{0x200b, 0x200f}, Range{0x2028, 0x202e}, Range{0x2060, 0x206f},
    Range{0xfeff, 0xfeff}, Range{0xfff9, 0xfffb}, Range{0xe0000, 0xe007f},
};

// East Asian Width W and F, and emoji, in coarse blocks: too wide an estimate only wraps a line early.
constexpr std::array kWide = {
    Range{0x1100, 0x115f}, Range{0x2e80, 0xa4cf}, Range{0xac00, 0xd7a3},   Range{0xf900, 0xfaff},
    Range{0xfe30, 0xfe6f}, Range{0xff00, 0xff60}, Range{0xffe0, 0xffe6},   Range{0x1f000, 0x1faff},
    Range{0x20000, 0x3fffd},
};

template <std::size_t N>
bool is_in(const std::array<Range, N>& ranges, char32_t value)
{
  return std::ranges::any_of(ranges, [=](Range range) { return value >= range.first && value <= range.last; });
}

void append_json_code_point(std::string& out, char32_t value)
{
  if (value > 0xffff) {
    const auto number = static_cast<std::uint32_t>(value) - 0x10000;
    fmt::format_to(std::back_inserter(out), "\\u{:04x}\\u{:04x}", 0xd800U + (number >> 10),
                   0xdc00U + (number & 0x3ffU));
    return;
  }
  switch (value) {
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default: fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<std::uint32_t>(value));
  }
}

void append_visible_code_point(std::string& out, char32_t value)
{
  const auto number = static_cast<std::uint32_t>(value);
  const auto end = std::back_inserter(out);
  if (number < 0x80)
    fmt::format_to(end, "\\x{:02x}", number);
  else if (number <= 0xffff)
    fmt::format_to(end, "\\u{:04x}", number);
  else
    fmt::format_to(end, "\\U{:08x}", number);
}

std::string_view ascii_of(char32_t value)
{
  switch (value) {
    case U'←': return "<-";
    case U'→': return "->";
    case U'≥': return ">=";
    case U'≤': return "<=";
    case U'…': return "...";
    default: return {};
  }
}

bool is_plain(char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

}  // namespace

CodePoint decode_utf8(std::string_view text)
{
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80)
    return {lead, 1, true};
  std::size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : 0;
  if (lead >= 0xf0 && lead <= 0xf4)
    length = 4;
  if (length == 0)
    return {};
  // The second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF (RFC 3629, section 4).
  const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  char32_t value = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; i++) {
    if (i >= text.size() || byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xbf))
      return {0, i, false};
    value = value << 6 | (byte(i) & 0x3fU);
  }
  return {value, length, true};
}

bool is_unprintable(char32_t value) { return is_in(kUnprintable, value); }

void append_json_string(std::string& out, std::string_view text)
{
  out += '"';
  while (!text.empty()) {
    const auto plain = static_cast<std::size_t>(std::ranges::find_if_not(text, is_plain) - text.begin());
    out += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty())
      break;
    const CodePoint point = decode_utf8(text);
    if (!point.valid)
      out += "\xef\xbf\xbd";
    else if (is_unprintable(point.value))
      append_json_code_point(out, point.value);
    else {
      if (point.value == '"' || point.value == '\\')
        out += '\\';
      out += text.substr(0, point.bytes);
    }
    text.remove_prefix(point.bytes);
  }
  out += '"';
}

std::string visible(std::string_view text, VisibleOptions options)
{
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    const std::string_view bytes = text.substr(0, point.bytes);
    const std::string_view ascii = options.ascii && point.valid ? ascii_of(point.value) : std::string_view{};
    if (!point.valid)
      for (char c : bytes)
        fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
    else if (is_unprintable(point.value))
      append_visible_code_point(out, point.value);
    else if (point.value == '\\' && options.escape_backslash)
      out += "\\\\";
    else
      out += ascii.empty() ? bytes : ascii;
    text.remove_prefix(point.bytes);
  }
  return out;
}

std::size_t display_width(std::string_view utf8)
{
  std::size_t width = 0;
  while (!utf8.empty()) {
    const CodePoint point = decode_utf8(utf8);
    width += point.valid && is_in(kWide, point.value) ? 2 : 1;
    utf8.remove_prefix(point.bytes);
  }
  return width;
}

std::string_view utf8_prefix(std::string_view text, std::size_t bytes)
{
  if (bytes >= text.size())
    return text;
  // A character has at most three continuation bytes; where there are more it was no UTF-8 to begin with.
  const auto continues = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80; };
  std::size_t end = bytes;
  while (end > 0 && bytes - end < 3 && continues(end))
    end--;
  return text.substr(0, continues(end) ? bytes : end);
}

}  // namespace laggard::output
