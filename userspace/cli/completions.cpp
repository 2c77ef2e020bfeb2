// SPDX-License-Identifier: MIT
#include "cli/completions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>

namespace laggard::cli {
namespace {

struct Argument {
  std::vector<std::string> short_names, long_names;  // without dashes; none: positional
  std::string group;
  std::string description;
  std::string value;  // as --help shows it; empty: a flag
  bool is_flag = false;
  bool repeats = false;
  bool is_list = false;  // choices with commas between
  std::vector<std::string> choices;
  bool is_file = false;

  bool is_option() const { return !short_names.empty() || !long_names.empty(); }
  std::vector<std::string> spellings() const
  {
    std::vector<std::string> all;
    for (const std::string& name : short_names)
      all.push_back("-" + name);
    for (const std::string& name : long_names)
      all.push_back("--" + name);
    return all;
  }
};

struct Command {
  std::string name, description;
  std::vector<Argument> arguments;
  bool takes_file() const
  {
    return std::ranges::any_of(arguments, [](const Argument& argument) { return !argument.is_option() && argument.is_file; });
  }
};

Argument describe(const CLI::Option& option)
{
  Argument argument{option.get_snames(), option.get_lnames(), option.get_group(), option.get_description(), {}, {}, {}, {}, {}, {}};
  argument.is_flag = option.get_items_expected_max() == 0;
  argument.repeats = option.get_items_expected_max() > 1;
  argument.is_list = option.get_delimiter() != '\0';
  std::string type = option.get_positional() ? option.get_name(true) : option.get_type_name();
  argument.value = option.get_option_text().empty() ? type : option.get_option_text();
  if (const auto end = type.find('}'); type.starts_with('{') && end != std::string::npos) {
    argument.choices = CLI::detail::split(type.substr(1, end - 1), ',');
    type.erase(0, end + 1);
    argument.is_file = type == "|FILE";
  } else {
    argument.is_file = type == "FILE";
  }
  return argument;
}

Command describe(const CLI::App& app)
{
  Command command{app.get_name(), app.get_description(), {}};
  for (const CLI::Option* option : app.get_options())
    if (!option->get_group().empty())
      command.arguments.push_back(describe(*option));
  return command;
}

// Not those that --help does not show.
std::vector<Command> subcommands(const CLI::App& app)
{
  std::vector<Command> commands;
  for (const CLI::App* subcommand : app.get_subcommands([](const CLI::App* each) { return !each->get_group().empty(); }))
    commands.push_back(describe(*subcommand));
  return commands;
}

std::string replaced(std::string_view text, std::string_view characters, std::string_view before)
{
  std::string out;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos)
      out += before;
    out += c;
  }
  return out;
}

// For within single quotes, in all three shells.
std::string in_quotes(std::string_view text)
{
  std::string out;
  for (const char c : text)
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + out + "'";
}

std::string bash_options(const Command& command)
{
  std::vector<std::string> all;
  for (const Argument& argument : command.arguments)
    for (const std::string& name : argument.spellings())
      all.push_back(name);
  return fmt::format("{}", fmt::join(all, " "));
}

std::string bash_values(const Command& command)
{
  std::string cases;
  for (const Argument& argument : command.arguments) {
    if (!argument.is_option() || argument.is_flag)
      continue;
    cases += fmt::format("    {}) {}{}{}return ;;\n", fmt::join(argument.spellings(), " | "),
                         argument.choices.empty() ? "" : fmt::format("_laggard_words '{}'; ", fmt::join(argument.choices, " ")),
                         argument.is_list ? "compopt -o nospace; " : "", argument.is_file ? "_laggard_files; " : "");
  }
  return cases;
}

std::string bash(const Command& app, const std::vector<Command>& commands)
{
  std::string names, options, values, files;
  for (const Command& command : commands) {
    names += (names.empty() ? "" : " ") + command.name;
    options += fmt::format("    {}) options+=' {}' ;;\n", command.name, bash_options(command));
    values += bash_values(command);
    if (command.takes_file())
      files += (files.empty() ? "" : " | ") + command.name;
  }
  constexpr std::string_view kScript = R"(# bash completion for laggard; written by 'laggard completions bash'
# shellcheck shell=bash disable=SC2207
_laggard_words() {{
  # What stands before the last comma is complete.
  local before=
  [[ $cur != *,* ]] || before=${{cur%,*}},
  COMPREPLY+=($(compgen -P "$before" -W "$1" -- "${{cur##*,}}"))
}}
_laggard_files() {{
  compopt -o filenames
  local IFS=$'\n'
  COMPREPLY+=($(compgen -f -- "$cur"))
}}
_laggard() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command='' word
  local options='{options}'
  COMPREPLY=()
  # '--output=json' arrives as three words.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]]; then
    prev=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if [[ ' {names} ' == *" $word "* ]]; then
      command=$word
      break
    fi
  done
  case $prev in
{values}  esac
  case $command in
{suboptions}  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  fi
  case $command in
    '') _laggard_words '{names}' ;;
    {files}) _laggard_files ;;
  esac
}}
complete -F _laggard laggard
)";
  return fmt::format(kScript, fmt::arg("options", bash_options(app)), fmt::arg("names", names),
                     fmt::arg("values", bash_values(app) + values), fmt::arg("suboptions", options), fmt::arg("files", files));
}

std::string zsh_options(const Command& command)
{
  std::string specs;
  for (const Argument& argument : command.arguments) {
    const std::string description = "[" + replaced(argument.description, "[]:\\", "\\") + "]";
    std::string value;
    if (!argument.is_flag) {
      const std::string name = replaced(argument.value, "[]:\\", "\\");
      const std::string words = fmt::format("{}", fmt::join(argument.choices, " "));
      if (argument.is_list)
        value = fmt::format(":{}:_sequence compadd - {}", name, words);
      else if (argument.is_file && !argument.choices.empty())
        value = fmt::format(":{}:_alternative 'words\\:word\\:({})' 'files\\:file\\:_files'", name, words);
      else
        value = fmt::format(":{}:{}", name, argument.is_file ? "_files" : argument.choices.empty() ? " " : "(" + words + ")");
    }
    for (const std::string& name : argument.spellings())
      specs += fmt::format("    {}\n", in_quotes((argument.repeats ? "*" : "") + name +
                                              (!argument.is_flag && name.starts_with("--") ? "=" : "") + description + value));
  }
  return specs;
}

std::string zsh(const Command& app, const std::vector<Command>& commands)
{
  std::string names, described, options, files;
  for (const Command& command : commands) {
    names += (names.empty() ? "" : "|") + command.name;
    described += fmt::format("    {}\n", in_quotes(command.name + ":" + replaced(command.description, ":\\", "\\")));
    options += fmt::format("    {}) options+=(\n{}    ) ;;\n", command.name, zsh_options(command));
    if (command.takes_file())
      files += (files.empty() ? "" : "|") + command.name;
  }
  constexpr std::string_view kScript = R"(#compdef laggard
# zsh completion for laggard; written by 'laggard completions zsh'
_laggard() {{
  local curcontext=$curcontext state line
  local -a options commands
  commands=(
{described}  )
  options=(
{options}  )
  local command=${{words[(r)({names})]}}
  case $command in
{suboptions}  esac
  _arguments -S : $options '1: :->command' '*: :->rest' && return
  case $state in
    command) _describe command commands ;;
    rest) case $command in
        {files}) _files ;;
      esac ;;
  esac
}}
if [ "$funcstack[1]" = _laggard ]; then _laggard "$@"; else compdef _laggard laggard; fi
)";
  return fmt::format(kScript, fmt::arg("described", described), fmt::arg("options", zsh_options(app)), fmt::arg("names", names),
                     fmt::arg("suboptions", options), fmt::arg("files", files));
}

std::string fish_options(const Command& command, const std::string& condition)
{
  std::string lines;
  for (const Argument& argument : command.arguments) {
    if (!argument.is_option()) {
      if (argument.is_file)
        lines += fmt::format("complete -c laggard{} -F\n", condition);
      continue;
    }
    std::string names;
    for (const std::string& name : argument.short_names)
      names += " -s " + name;
    for (const std::string& name : argument.long_names)
      names += " -l " + name;
    const std::string words = fmt::format("{}", fmt::join(argument.choices, " "));
    const std::string value = argument.is_flag   ? ""
                              : argument.is_file ? " -r -F"
                                                 : " -x";
    const std::string offered = argument.choices.empty() ? ""
                                : argument.is_list       ? " -a " + in_quotes("(__fish_append , " + words + ")")
                                                         : " -a " + in_quotes(words);
    lines += fmt::format("complete -c laggard{}{}{}{} -d {}\n", condition, names, value, offered, in_quotes(argument.description));
  }
  return lines;
}

std::string fish(const Command& app, const std::vector<Command>& commands)
{
  std::string script = "# fish completion for laggard; written by 'laggard completions fish'\ncomplete -c laggard -f\n";
  for (const Command& command : commands)
    script += fmt::format("complete -c laggard -n __fish_use_subcommand -a {} -d {}\n", command.name, in_quotes(command.description));
  script += fish_options(app, "");
  for (const Command& command : commands)
    script += fish_options(command, fmt::format(" -n '__fish_seen_subcommand_from {}'", command.name));
  return script;
}

std::string scdoc_text(std::string_view text) { return replaced(text, "_*\\<>#[|]~", "\\"); }

// No group: the options of a command.
std::string scdoc_arguments(const Command& command, std::string_view group, std::string_view indent)
{
  std::string out;
  for (const Argument& argument : command.arguments) {
    const bool is_said_elsewhere = group.empty() && argument.long_names == std::vector<std::string>{"help"};
    if (!argument.is_option() || is_said_elsewhere || (!group.empty() && argument.group != group))
      continue;
    const std::string value = argument.is_flag ? "" : " " + scdoc_text(argument.value) + (argument.repeats ? " ..." : "");
    out += fmt::format("{0}*{1}*{2}\n{0}\t{3}\n\n", indent, fmt::join(argument.spellings(), "*, *"), value,
                       scdoc_text(argument.description));
  }
  return out;
}

std::string scdoc(const Command& app, const std::vector<Command>& commands)
{
  std::string page = "# COMMANDS\n\n";
  for (const Command& command : commands) {
    std::string takes;
    for (const Argument& argument : command.arguments)
      if (!argument.is_option())
        takes += " " + argument.value;
    page += fmt::format("*{}*{}\n\t{}\n\n{}", command.name, takes, scdoc_text(command.description),
                        scdoc_arguments(command, "", "\t"));
  }
  page += "# OPTIONS\n\n";
  std::vector<std::string> groups;
  for (const Argument& argument : app.arguments)
    if (std::ranges::find(groups, argument.group) == groups.end())
      groups.push_back(argument.group);
  for (const std::string& group : groups)
    page += (group == "Options" ? "" : fmt::format("## {}\n\n", group)) + scdoc_arguments(app, group, "");
  return page;
}

}  // namespace

std::string generate(const CLI::App& app, std::string_view what)
{
  const Command root = describe(app);
  const std::vector<Command> commands = subcommands(app);
  if (what == "bash")
    return bash(root, commands);
  if (what == "zsh")
    return zsh(root, commands);
  return what == "fish" ? fish(root, commands) : scdoc(root, commands);
}

}  // namespace laggard::cli
