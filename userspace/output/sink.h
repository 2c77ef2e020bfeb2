// SPDX-License-Identifier: MIT
// Where results go. A sink gets everything that must be said, loss included, so that no format can forget it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/result.h"
#include "detect/finding.h"
#include "model/observer.h"
#include "model/tick.h"

namespace laggard::output {

using model::HookChoice;
using model::Observer;

struct Summary {
  WallTime time;
  Duration observed{};
  std::uint64_t ticks = 0;
  std::uint64_t findings_opened = 0;
  std::uint64_t findings_open = 0;  // at the end
  std::uint64_t sockets_tracked = 0;
  model::Losses lost;
  bool incomplete = false;  // "nothing found" would be a lie
  std::string reason;       // of the end: "interrupted", "duration reached", "end of recording", ...
};

struct Degraded {
  WallTime time;
  std::string message;  // what cannot be seen any more and why
  model::Losses lost;   // since the last such line
};

// A line of `laggard snapshot`.
struct SocketLine {
  WallTime time;
  model::SocketSample sample;
  std::vector<std::uint32_t> holders;  // pids
  detect::ProcessRef process;          // the first holder
  std::optional<Duration> oldest_unread_at_least;
};

class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  // False: this output takes no more, error() says why. After EPIPE, the reader went away, the caller ends quietly.
  // SIGPIPE must be ignored. What goes to diagnostics_fd never fails: nobody has to read it.
  virtual bool started(const Observer& observer, WallTime time) = 0;
  virtual bool finding(const detect::Finding& finding) = 0;
  virtual bool socket(const SocketLine& line) = 0;
  virtual bool degraded(const Degraded& degraded) = 0;
  virtual bool stopped(const Summary& summary) = 0;

  std::error_code error() const { return error_; }

 protected:
  bool write(int fd, std::string_view bytes);

 private:
  std::error_code error_;
};

enum class Format : std::uint8_t { Text, Json, Logfmt };

struct SinkOptions {
  Format format = Format::Text;
  bool color = false;      // text only
  bool ascii = false;      // text only: <- -> >= ... instead of the arrows and signs
  unsigned columns = 80;   // of the terminal; text only
  int fd = 1;              // not owned
  int diagnostics_fd = 2;  // text only: of started, degraded and stopped, so that a pipe holds findings only
};

std::unique_ptr<Sink> make_sink(const SinkOptions& options, const Observer& observer);

}  // namespace laggard::output
