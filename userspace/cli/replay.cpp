// SPDX-License-Identifier: MIT
#include <cstdio>
#include <optional>

#include "cli/commands.h"
#include "cli/session.h"
#include "output/output_file.h"
#include "source/recording.h"

namespace laggard::cli {

int run_replay(const Options& options)
{
  auto recording = source::RecordingReader::open(options.file);
  if (!recording) {
    std::fprintf(stderr, "laggard: %s\n", recording.error().message().c_str());
    return kCannotObserve;
  }
  source::RecordingReader& reader = **recording;
  output::SinkOptions sink = sink_options(options);
  std::optional<output::OutputFile> file;
  if (!options.output_file.empty()) {
    auto opened = output::OutputFile::open(options.output_file);
    if (!opened) {
      std::fprintf(stderr, "laggard: --output-file: %s\n", opened.error().message().c_str());
      return kUsage;
    }
    file = std::move(*opened);
    sink.fd = file->fd();
  }
  model::Observer observer = reader.header().observer;
  observer.replayed_from = options.file;
  Session session{options, observer, output::make_sink(sink, observer)};

  bool announced = false;
  std::string trouble;
  for (;;) {
    auto raw = reader.next();
    if (!raw)
      trouble = raw.error().message();
    if (!raw || !*raw)
      break;
    if (!announced) {
      announced = true;
      const auto first = source::decode(**raw);
      if (!session.started(first ? first->wall_time : WallTime{}))
        return session.output_ended();
    }
    if (!session.tick(std::move(**raw)))
      return session.output_ended();
  }
  if (reader.truncated())
    trouble = options.file + " ends within a tick: replayed up to the last whole one";
  if (trouble.empty() && !session.error().empty())
    trouble = options.file + ": " + session.error();
  if (trouble.empty() && session.ticks() == 0)
    trouble = options.file + " holds no tick";
  if (trouble.empty() && session.missing_ticks() > 0)
    trouble = options.file + ": ticks missing within it: " + std::to_string(session.missing_ticks());
  if (!trouble.empty()) {
    session.cannot_see(trouble);
    std::fprintf(stderr, "laggard: %s\n", trouble.c_str());
  }
  if (const bool said = session.stop(trouble.empty() ? "end of recording" : trouble); !said && session.output_ended() != kObserved)
    return kIncomplete;
  return session.exit_code();
}

}  // namespace laggard::cli
