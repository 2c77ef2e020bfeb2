// SPDX-License-Identifier: MIT
// Events to print, and what came out. Numbers are prime where nothing else decides them.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "output/sink.h"

namespace laggard::test {

// 2024-02-29 23:59:59.000000007
WallTime sample_time();
model::Endpoint ipv4(std::initializer_list<int> bytes, int port);
model::Endpoint ipv6(std::string_view first_and_last_byte, int port);  // "\xfd\x07" is fd00::7

output::Observer sample_observer();
detect::Finding sample_finding(detect::Kind kind = detect::Kind::SlowReader,
                               detect::Phase phase = detect::Phase::Opened);
detect::Finding sample_group();
output::SocketLine sample_socket();
output::Summary sample_summary();
output::Degraded sample_degraded();

// Names that a hostile or careless program may have.
std::vector<std::string> hostile_names();

// Runs `say` on a fresh sink and returns what reached fd and diagnostics_fd.
struct Printed {
  std::string out;
  std::string diagnostics;
  bool ok = true;
};

class Capture {
 public:
  Capture();
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  int fd() const { return fd_; }
  std::string text() const;

 private:
  int fd_;
};

template <class Say>
Printed print(output::SinkOptions options, const Say& say)
{
  Capture out;
  Capture diagnostics;
  options.fd = out.fd();
  options.diagnostics_fd = diagnostics.fd();
  const auto sink = output::make_sink(options, sample_observer());
  const bool ok = say(*sink);
  return {out.text(), diagnostics.text(), ok};
}

std::vector<std::string> lines_of(std::string_view text);

// key, value as text, unescaped; fails the test where the line does not parse.
std::vector<std::pair<std::string, std::string>> parse_logfmt(std::string_view line);

}  // namespace laggard::test
