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
#include "output/writer.h"

namespace laggard::output {

using model::HookChoice;
using model::Observer;

// Lines that there was no room to keep until the output took them.
struct Dropped {
  std::uint64_t opened = 0;
  std::uint64_t updated = 0;
  std::uint64_t resolved = 0;
  std::uint64_t degraded = 0;  // and diagnostics
  std::uint64_t total() const { return opened + updated + resolved + degraded; }
  bool operator==(const Dropped&) const = default;
};

struct Summary {
  WallTime time;
  Duration observed{};
  std::uint64_t ticks = 0;
  std::uint64_t findings_opened = 0;
  std::uint64_t findings_open = 0;  // at the end
  std::uint64_t sockets_tracked = 0;
  model::Losses lost;
  Duration unobserved{};    // of `observed` nothing was looked at
  Dropped dropped{};        // does not make it incomplete: it was looked at, and counted
  bool incomplete = false;  // "nothing found" would be a lie
  std::string reason;       // of the end: "interrupted", "duration reached", "end of recording", ...
};

struct Degraded {
  WallTime time;
  std::string message;  // what cannot be seen any more and why
  model::Losses lost;   // since the last such line
  Dropped dropped{};    // the same
  Duration unobserved{};  // the same: time in which nothing was looked at
};

// A line of `laggard snapshot`.
struct SocketLine {
  WallTime time;
  model::SocketSample sample;
  std::vector<std::uint32_t> holders;  // pids
  detect::ProcessRef process;          // the first holder
  std::optional<Duration> oldest_unread_at_least;
};

// What `laggard explain` found: with what the memory of one process grew, and where in its code.
struct Explanation {
  struct Frame {
    std::uint64_t address = 0;
    std::string symbol;  // empty: unknown; bytes that a program chose
    std::uint64_t symbol_offset = 0;
    std::string module;  // path as mapped; empty: no file
    std::uint64_t module_offset = 0;
    std::string source;  // "ring.cpp:42"; empty: unknown
  };
  // Where the pages were touched: by the kernel within a read, by a thread whose last read was of the socket, by others.
  enum class Where : std::uint8_t { WithinRead, AfterRead, OtherSystemCall, NoSocket };
  struct Stack {
    Where where = Where::NoSocket;
    std::uint64_t cookie = 0;  // of the socket, where there is one
    std::string place;         // the socket for people; empty: none, or not known any more
    std::uint64_t bytes = 0;
    std::uint64_t samples = 0;
    std::vector<Frame> frames;  // innermost first
  };
  struct Socket {
    std::uint64_t cookie = 0;
    std::optional<detect::SocketRef> socket;  // absent: closed before we could look
    std::uint64_t kernel_bytes = 0;           // filled within reads
    std::uint64_t user_bytes = 0;             // touched after reads
    bool asked_for = false;                   // --connection
  };

  WallTime time;
  detect::ProcessRef process;
  Duration observed{};
  bool complete = false;           // for as long as was asked for
  std::uint64_t memory_bytes = 0;  // private, at the end
  double net_bytes = 0;            // gained meanwhile; what was given back is subtracted here only
  std::uint64_t other_bytes = 0;   // with no socket
  std::uint64_t total_bytes = 0;   // became resident
  std::optional<double> limit_eta_seconds;
  std::vector<Socket> sockets;     // most first
  std::vector<Stack> stacks;       // most first
  std::string hooks;
  std::vector<std::string> missing;
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
  virtual bool explanation(const Explanation& explanation) = 0;
  virtual bool degraded(const Degraded& degraded) = 0;
  virtual bool stopped(const Summary& summary) = 0;

  // False where what was said before could not be written, which is known only now.
  virtual bool takes_more() { return true; }

  std::error_code error() const { return error_; }

  // Once `fd` is readable, whoever reads the output is not waited for any longer than a second: error() is then
  // std::errc::interrupted. Not owned.
  void give_up_when(int fd) { writer_.give_up_when(fd); }

 protected:
  bool write(int fd, std::string_view bytes);
  void failed(std::error_code error) { error_ = error; }

 private:
  std::error_code error_;
  Writer writer_;
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
