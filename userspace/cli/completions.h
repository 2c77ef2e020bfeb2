// SPDX-License-Identifier: MIT
// What is written from the options themselves, so that none is forgotten: completions for shells, and the options' part of
// the man page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace laggard::cli {

inline const std::vector<std::string> kGenerated = {"bash", "zsh", "fish", "scdoc"};
// What an option takes is told by its type name: "{json,text}" these words, "FILE" a file, "{msquic}|FILE" both, anything
// else is not completed.
std::string generate(const CLI::App& app, std::string_view what);

}  // namespace laggard::cli
