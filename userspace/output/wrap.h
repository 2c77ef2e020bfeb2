// SPDX-License-Identifier: MIT
// Lines for a terminal. Text comes in escaped (escape.h) and leaves with newlines where it was wrapped.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace laggard::output {

// Lines of at most `width` columns, each ended by a newline; the first indented by `first`, the others by `rest`.
// Breaks at spaces, not between a number and its unit or sign, and within a word only where it is longer than a line.
std::string wrap(std::string_view text, std::size_t width, std::size_t first, std::size_t rest);

// As many characters of `text` as fit into `width` columns, the last replaced by `mark` where some are missing.
std::string fit(std::string_view text, std::size_t width, std::string_view mark);

std::string pad_left(std::string_view text, std::size_t width);
std::string pad_right(std::string_view text, std::size_t width);

}  // namespace laggard::output
