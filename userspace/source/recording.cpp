// SPDX-License-Identifier: MIT
#include "source/recording.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <zstd.h>

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

namespace laggard::source {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<char, 8> kMagic = {'L', 'A', 'G', 'G', 'A', 'R', 'D', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::uint32_t kFrameMagic = 0x4b434954;  // "TICK"
// Bounds against damage and bombs: what a recording takes in memory is proportional to its file. 100 k sockets are 40 MB, a
// header is a few hundred bytes.
constexpr std::uint32_t kMaxTickBytes = 256U << 20;
constexpr std::uint32_t kMaxHeaderBytes = 64U << 10;
// Measured: 8 in the recordings of tests/replay; of 60000 records that differ in what must differ 56 (sockets), 186 (pairs), 289
// (workloads of one systemd unit). The writer pads what is beyond.
constexpr std::uint32_t kMaxExpansion = 512;
constexpr std::size_t kStepBytes = 1U << 20;  // a length is believed as far as there are bytes
constexpr int kCompressionLevel = 1;  // ticks repeat themselves: 1 makes a tenth of them at 500 MB/s

struct Preamble {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t byte_order;
  std::uint32_t header_bytes;
};
static_assert(sizeof(Preamble) == 20);

struct FrameHead {
  std::uint32_t magic;
  std::uint32_t compressed_bytes;
  std::uint32_t raw_bytes;
};

// RFC 8878, 3.1.2: bytes that any decompressor passes over.
struct SkippableHead {
  std::uint32_t magic;
  std::uint32_t bytes;
};

Json to_json(const model::Observer& observer)
{
  Json hooks = Json::array();
  for (const model::HookChoice& choice : observer.hooks)
    hooks.push_back({{"feed", choice.feed}, {"hook", choice.hook}, {"note", choice.note}});
  return {{"version", observer.version}, {"host", observer.host_name}, {"node", observer.node_name},
          {"kernel", observer.kernel},   {"hooks", hooks},             {"missing", observer.missing}};
}

Result<model::Observer> observer_from(const std::string& text)
{
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object())
    return failure("the recording's header is damaged");
  const auto string_of = [](const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
  };
  model::Observer observer;
  observer.version = string_of(json, "version");
  observer.host_name = string_of(json, "host");
  observer.node_name = string_of(json, "node");
  observer.kernel = string_of(json, "kernel");
  if (const auto hooks = json.find("hooks"); hooks != json.end() && hooks->is_array())
    for (const Json& hook : *hooks)
      if (hook.is_object())
        observer.hooks.push_back({string_of(hook, "feed"), string_of(hook, "hook"), string_of(hook, "note")});
  if (const auto missing = json.find("missing"); missing != json.end() && missing->is_array())
    for (const Json& clause : *missing)
      if (clause.is_string())
        observer.missing.push_back(clause.get<std::string>());
  return observer;
}

Result<void> write_all(int fd, const std::string& path, std::string_view bytes)
{
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR)
        continue;
      return errno_failure(fmt::format("cannot write the recording {}", path));
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

class Writer final : public RecordingWriter {
 public:
  Writer(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)), context_(ZSTD_createCCtx())
  {
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kCompressionLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }

  Result<void> write_header(const RecordingHeader& header)
  {
    const std::string json = to_json(header.observer).dump(-1, ' ', true, Json::error_handler_t::replace);
    const Preamble preamble{kMagic, kVersion, kByteOrder, static_cast<std::uint32_t>(json.size())};
    std::string bytes(reinterpret_cast<const char*>(&preamble), sizeof preamble);
    return write_all(fd_.get(), path_, bytes + json);
  }

  Result<void> write(std::span<const std::byte> raw) override
  {
    std::string frame(sizeof(FrameHead) + ZSTD_compressBound(raw.size()), '\0');
    std::size_t size = ZSTD_compress2(context_.get(), frame.data() + sizeof(FrameHead), frame.size() - sizeof(FrameHead), raw.data(),
                                      raw.size());
    if (ZSTD_isError(size) != 0)
      return failure(fmt::format("cannot compress a tick: {}", ZSTD_getErrorName(size)));
    if (const std::size_t least = raw.size() / kMaxExpansion + 1; size < least) {
      const SkippableHead pad{ZSTD_MAGIC_SKIPPABLE_START, static_cast<std::uint32_t>(least - size)};
      frame.resize(std::max(frame.size(), sizeof(FrameHead) + size + sizeof pad + pad.bytes));
      std::memset(frame.data() + sizeof(FrameHead) + size, 0, sizeof pad + pad.bytes);
      std::memcpy(frame.data() + sizeof(FrameHead) + size, &pad, sizeof pad);
      size += sizeof pad + pad.bytes;
    }
    const FrameHead head{kFrameMagic, static_cast<std::uint32_t>(size), static_cast<std::uint32_t>(raw.size())};
    std::memcpy(frame.data(), &head, sizeof head);
    return write_all(fd_.get(), path_, {frame.data(), sizeof head + size});
  }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  Fd fd_;
  std::string path_;
  std::unique_ptr<ZSTD_CCtx, Free> context_;
};

class Reader final : public RecordingReader {
 public:
  Reader(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<void> read_header()
  {
    Preamble preamble{};
    const auto got = read_up_to(&preamble, sizeof preamble);
    if (!got)
      return tl::make_unexpected(got.error());
    if (*got < sizeof kMagic || preamble.magic != kMagic)
      return failure(fmt::format("{} is not a laggard recording; make one with 'laggard record FILE'", path_));
    if (*got < sizeof preamble)
      return failure(fmt::format("{} ends within its header: nothing can be replayed", path_));
    if (preamble.byte_order != kByteOrder)
      return failure(fmt::format("{} was recorded on a machine of the other byte order", path_));
    if (preamble.version != kVersion)
      return failure(fmt::format("{} has format version {}, this laggard reads {}", path_, preamble.version, kVersion));
    if (preamble.header_bytes > kMaxHeaderBytes)
      return failure(fmt::format("{} has a damaged header: it claims {} bytes, {} are the most", path_, preamble.header_bytes,
                                 kMaxHeaderBytes));
    std::string json(preamble.header_bytes, '\0');
    const auto text = read_up_to(json.data(), json.size());
    if (!text)
      return tl::make_unexpected(text.error());
    if (*text < json.size())
      return failure(fmt::format("{} ends within its header: nothing can be replayed", path_));
    auto observer = observer_from(json);
    if (!observer)
      return failure(fmt::format("{}: {}", path_, observer.error().message()));
    header_.observer = std::move(*observer);
    return {};
  }

  const RecordingHeader& header() const override { return header_; }
  bool truncated() const override { return truncated_; }

  Result<std::optional<RawTick>> next() override
  {
    FrameHead head{};
    const auto got = read_up_to(&head, sizeof head);
    if (!got)
      return tl::make_unexpected(got.error());
    if (*got == 0)
      return std::nullopt;
    if (*got < sizeof head)
      return end_of_whole_ticks();
    if (head.magic != kFrameMagic || head.raw_bytes > kMaxTickBytes || head.compressed_bytes > ZSTD_compressBound(kMaxTickBytes))
      return failure(fmt::format("{} is damaged after tick {}", path_, ticks_));
    if (head.raw_bytes / kMaxExpansion > head.compressed_bytes)
      return failure(fmt::format("{} is damaged after tick {}: {} bytes would become {}, and {} times as many is the limit", path_,
                                 ticks_, head.compressed_bytes, head.raw_bytes, kMaxExpansion));
    std::string compressed;
    while (compressed.size() < head.compressed_bytes) {
      const std::size_t had = compressed.size(), step = std::min(kStepBytes, head.compressed_bytes - had);
      compressed.resize(had + step);
      const auto body = read_up_to(compressed.data() + had, step);
      if (!body)
        return tl::make_unexpected(body.error());
      if (*body < step)
        return end_of_whole_ticks();
    }
    // The frame says its own size too; a bomb is refused before memory is reserved for it.
    if (ZSTD_getFrameContentSize(compressed.data(), compressed.size()) != head.raw_bytes)
      return failure(fmt::format("{} is damaged after tick {}", path_, ticks_));
    RawTick raw(head.raw_bytes);
    if (ZSTD_decompress(raw.data(), raw.size(), compressed.data(), compressed.size()) != raw.size())
      return failure(fmt::format("{} is damaged after tick {}: checksum", path_, ticks_));
    ticks_++;
    return raw;
  }

 private:
  Result<std::optional<RawTick>> end_of_whole_ticks()
  {
    truncated_ = true;
    return std::nullopt;
  }

  Result<std::size_t> read_up_to(void* data, std::size_t size)
  {
    std::size_t done = 0;
    while (done < size) {
      const ssize_t got = ::read(fd_.get(), static_cast<char*>(data) + done, size - done);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return errno_failure(fmt::format("cannot read the recording {}", path_));
      if (got == 0)
        break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  Fd fd_;
  std::string path_;
  RecordingHeader header_;
  std::uint64_t ticks_ = 0;
  bool truncated_ = false;
};

// An existing file is overwritten only if it is empty or one of ours: a mistyped name costs nobody their data.
Result<void> check_overwrite(int fd, const std::string& path)
{
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
    return {};
  std::array<char, kMagic.size()> magic{};
  if (::pread(fd, magic.data(), magic.size(), 0) != static_cast<ssize_t>(magic.size()) || magic != kMagic)
    return failure(fmt::format("{} exists and is not a laggard recording: name another file", path));
  return {};
}

}  // namespace

Result<std::unique_ptr<RecordingWriter>> RecordingWriter::create(const std::string& path, const RecordingHeader& header)
{
  Fd fd{path == "-" ? ::dup(1) : ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!fd)
    return errno_failure(fmt::format("cannot create the recording {}", path));
  if (path != "-") {
    if (auto ok = check_overwrite(fd.get(), path); !ok)
      return tl::make_unexpected(ok.error());
    struct stat status {};
    if (::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode) && ::ftruncate(fd.get(), 0) != 0)
      return errno_failure(fmt::format("cannot empty the recording {}", path));
  }
  auto writer = std::make_unique<Writer>(std::move(fd), path);
  if (auto written = writer->write_header(header); !written)
    return tl::make_unexpected(written.error());
  return writer;
}

Result<std::unique_ptr<RecordingReader>> RecordingReader::open(const std::string& path)
{
  Fd fd{path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd)
    return errno_failure(fmt::format("cannot open the recording {}", path));
  auto reader = std::make_unique<Reader>(std::move(fd), path);
  if (auto read = reader->read_header(); !read)
    return tl::make_unexpected(read.error());
  return reader;
}

}  // namespace laggard::source
