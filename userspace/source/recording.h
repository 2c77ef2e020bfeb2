// SPDX-License-Identifier: MIT
// Raw ticks in a file, so that anything laggard concluded can be concluded again without root and without a kernel.
//
//   "LAGGARD\n"  u32 version (1)  u32 byte order mark 0x01020304  u32 header length  JSON header
//   then per tick: "TICK"  u32 compressed bytes  u32 raw bytes  one zstd frame with checksum, and a skippable frame where the raw
//   bytes would else be more than 512 times the compressed ones: a file cannot take much more memory than it has bytes
//
// Each frame is written with one write(2): a file that was cut off anywhere replays up to its last whole tick.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "model/observer.h"
#include "source/decode.h"

namespace laggard::source {

// What travels with a recording.
struct RecordingHeader {
  model::Observer observer;  // with whose eyes it was taken
};

class RecordingWriter {
 public:
  // Refuses to overwrite anything that is not a recording of ours. "-" writes to standard output.
  static Result<std::unique_ptr<RecordingWriter>> create(const std::string& path, const RecordingHeader& header);
  virtual ~RecordingWriter() = default;
  virtual Result<void> write(std::span<const std::byte> raw) = 0;
};

class RecordingReader {
 public:
  // "-" reads standard input.
  static Result<std::unique_ptr<RecordingReader>> open(const std::string& path);
  virtual ~RecordingReader() = default;
  virtual const RecordingHeader& header() const = 0;
  // The next whole tick; empty at the end. After the end `truncated` says whether the file stopped within a tick.
  virtual Result<std::optional<RawTick>> next() = 0;
  virtual bool truncated() const = 0;
};

}  // namespace laggard::source
