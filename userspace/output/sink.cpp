// SPDX-License-Identifier: MIT
#include "output/sink.h"

#include <algorithm>

#include "output/fields.h"
#include "output/text.h"

namespace laggard::output {
namespace {

// rsyslog cuts at 8 KiB and then fails to parse. With the newline.
constexpr std::size_t kMaxLineBytes = 8000;

// json and logfmt: everything goes to one stream, an event is a line.
class LineSink final : public Sink {
 public:
  using Render = void (*)(const Fields&, std::string&);
  LineSink(int fd, const Observer& observer, Render render) : fd_(fd), observer_(observer), render_(render) {}

  bool started(const Observer& observer, WallTime time) override
  {
    observer_ = observer;
    return put(started_fields(observer_, time));
  }
  bool finding(const detect::Finding& finding) override { return put(finding_fields(observer_, finding)); }
  bool socket(const SocketLine& line) override { return put(socket_fields(observer_, line)); }
  bool explanation(const Explanation& explanation) override
  {
    return std::ranges::all_of(explanation_fields(observer_, explanation), [this](const Fields& fields) { return put(fields); });
  }
  bool degraded(const Degraded& degraded) override { return put(degraded_fields(observer_, degraded)); }
  bool stopped(const Summary& summary) override { return put(stopped_fields(observer_, summary)); }

 private:
  bool put(Fields fields)
  {
    do {
      line_.clear();
      render_(fields, line_);
      line_ += '\n';
    } while (line_.size() > kMaxLineBytes && shorten(fields));
    return write(fd_, line_);
  }

  int fd_;
  Observer observer_;
  Render render_;
  std::string line_;
};

}  // namespace

bool Sink::write(int fd, std::string_view bytes)
{
  const int error = writer_.write(fd, bytes);
  if (error != 0)
    error_ = std::error_code(error, std::system_category());
  return error == 0;
}

std::unique_ptr<Sink> make_sink(const SinkOptions& options, const Observer& observer)
{
  switch (options.format) {
    case Format::Json: return std::make_unique<LineSink>(options.fd, observer, render_json);
    case Format::Logfmt: return std::make_unique<LineSink>(options.fd, observer, render_logfmt);
    case Format::Text: break;
  }
  return make_text_sink(options, observer);
}

}  // namespace laggard::output
