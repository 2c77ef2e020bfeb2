// SPDX-License-Identifier: MIT
// Strings that come from programs: any bytes in, nothing out that could forge a line or drive a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace laggard::output {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 1;  // consumed; of an invalid sequence its maximal subpart (Unicode 3.9)
  bool valid = false;
};
CodePoint decode_utf8(std::string_view text);  // of the first; `text` is not empty

// Controls (C0, DEL, C1), line and paragraph separators, bidirectional overrides and other characters without a glyph.
bool is_unprintable(char32_t value);

// `"..."`. Invalid UTF-8 becomes U+FFFD, what is_unprintable becomes \u00xx.
void append_json_string(std::string& out, std::string_view text);

struct VisibleOptions {
  bool ascii = false;              // our own arrows and signs in ASCII
  bool escape_backslash = false;   // for names, so that no name can look like an escaped other one
};
// For people: what is_unprintable and every byte of invalid UTF-8 becomes \xNN or \uNNNN.
std::string visible(std::string_view text, VisibleOptions options = {});

// Columns on a terminal.
std::size_t display_width(std::string_view utf8);

// The longest prefix of at most `bytes` bytes that does not end within a character.
std::string_view utf8_prefix(std::string_view text, std::size_t bytes);

}  // namespace laggard::output
