// SPDX-License-Identifier: MIT
#include "output/wrap.h"

#include <algorithm>
#include <vector>

#include "output/escape.h"

namespace laggard::output {
namespace {

constexpr std::size_t kLongestUnit = 6;  // "bytes", "KiB/s,"

bool is_number(std::string_view word)
{
  const std::size_t start = word.find_first_not_of("(>=<");
  return start != std::string_view::npos && word[start] >= '0' && word[start] <= '9' &&
         word.find_first_not_of("0123456789.,", start) == std::string_view::npos && word.back() != ',' &&
         word.back() != '.';
}

bool is_sign(std::string_view word) { return word == "≥" || word == ">=" || word == "≤" || word == "<="; }

bool belongs_together(std::string_view word, std::string_view next)
{
  return is_sign(word) || (is_number(word) && next.size() <= kLongestUnit && !is_number(next));
}

// Split at spaces, with what belongs together in one piece.
std::vector<std::string> pieces_of(std::string_view text)
{
  std::vector<std::string> pieces;
  std::string_view previous;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (word.empty())
      continue;
    if (!pieces.empty() && belongs_together(previous, word)) {
      pieces.back() += ' ';
      pieces.back() += word;
    } else {
      pieces.emplace_back(word);
    }
    previous = word;
  }
  return pieces;
}

// The prefix that fits, at least one character.
std::string_view prefix_of_width(std::string_view text, std::size_t width)
{
  std::size_t bytes = 0;
  std::size_t used = 0;
  while (bytes < text.size()) {
    const CodePoint point = decode_utf8(text.substr(bytes));
    used += display_width(text.substr(bytes, point.bytes));
    if (used > width && bytes > 0)
      break;
    bytes += point.bytes;
  }
  return text.substr(0, bytes);
}

}  // namespace

std::string wrap(std::string_view text, std::size_t width, std::size_t first, std::size_t rest)
{
  std::string out(first, ' ');
  std::size_t column = first;
  bool fresh = true;
  const auto next_line = [&] {
    out += '\n';
    out.append(rest, ' ');
    column = rest;
    fresh = true;
  };
  for (const std::string& piece : pieces_of(text)) {
    std::string_view left = piece;
    if (!fresh && column + 1 + display_width(left) > width)
      next_line();
    if (!fresh) {
      out += ' ';
      column++;
    }
    while (column + display_width(left) > width && width > rest) {
      const std::string_view head = prefix_of_width(left, width - column);
      out += head.substr(0, head.find_last_not_of(' ') + 1);
      left.remove_prefix(head.size());
      left.remove_prefix(std::min(left.size(), left.find_first_not_of(' ')));
      next_line();
    }
    out += left;
    column += display_width(left);
    fresh = false;
  }
  out += '\n';
  return out;
}

std::string fit(std::string_view text, std::size_t width, std::string_view mark)
{
  if (display_width(text) <= width)
    return std::string(text);
  const std::size_t mark_width = display_width(mark);
  return std::string(prefix_of_width(text, width > mark_width ? width - mark_width : 1)) + std::string(mark);
}

std::string pad_left(std::string_view text, std::size_t width)
{
  const std::size_t used = display_width(text);
  return std::string(width > used ? width - used : 0, ' ') + std::string(text);
}

std::string pad_right(std::string_view text, std::size_t width)
{
  const std::size_t used = display_width(text);
  return std::string(text) + std::string(width > used ? width - used : 0, ' ');
}

}  // namespace laggard::output
