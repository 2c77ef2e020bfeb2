// SPDX-License-Identifier: MIT
// Recordings that are small and would like to be large: each is refused by name, or replays in memory that is bounded
// by its file.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cli/commands.h"
#include "replay/recorded.h"
#include "source/recording.h"
#include "support/wire.h"

namespace laggard::test {
namespace {

using source::RawTick;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::size_t kBombBytes = 64U << 20;
constexpr rlim_t kReplayBytes = 128U << 20;  // 11 KB of 8-byte records took 650 MB to 6 GB
constexpr std::uint32_t kMaxExpansion = 512;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kLimitsMemory = false;  // the shadow memory is beyond any limit
#else
constexpr bool kLimitsMemory = true;
#endif

laggard_tick_record head(std::uint64_t second = 0)
{
  laggard_tick_record tick{};
  tick.header.epoch = static_cast<__u32>(2 + second);
  tick.mono_ns = (1000 + second) * 1'000'000'000;
  tick.page_bytes = 4096;
  tick.coverage = LAGGARD_COVERS_SWEEP;
  return tick;
}

RawTick filled_with(const RawTick& record, std::size_t bytes)
{
  RawTick raw(bytes / record.size() * record.size());
  std::memcpy(raw.data(), record.data(), record.size());
  for (std::size_t done = record.size(); done < raw.size(); done *= 2)
    std::memcpy(raw.data() + done, raw.data(), std::min(done, raw.size() - done));
  const RawTick first = raw_tick(head());
  raw.insert(raw.begin(), first.begin(), first.end());
  return raw;
}

RawTick record_of(__u16 kind, __u16 size)
{
  RawTick raw(size);
  const laggard_record_header header{kind, size, 2};
  std::memcpy(raw.data(), &header, sizeof header);
  return raw;
}

laggard_socket_record stuck(std::uint64_t cookie)
{
  laggard_socket_record socket{};
  socket.cookie = cookie, socket.mono_ns = 999'000'000'000, socket.family = AF_INET, socket.protocol = IPPROTO_TCP,
  socket.state = 1;
  socket.flags = LAGGARD_F_HAS_FILE, socket.owner_tgid = 17, socket.unread_bytes = 700, socket.rcv_nxt = 1700,
  socket.copied_seq = 1000;
  return socket;
}

RawTick stuck_sockets(std::uint64_t first_cookie, std::size_t bytes, std::uint64_t second)
{
  RawTick raw = raw_tick(head(second));
  for (std::uint64_t cookie = first_cookie; raw.size() < bytes; cookie++) append(raw, stuck(cookie), 368);
  return raw;
}

struct Outcome {
  std::string errors;
  std::string died;  // why, if it did
  int exit_code = -1;
};

class Bombs : public testing::Test {
 protected:
  Bombs()
  {
    std::string name = (std::filesystem::temp_directory_path() / "laggard-bomb-XXXXXX").string();
    ::close(::mkstemp(name.data()));
    path_ = name;
    (void)source::RecordingWriter::create(path_, {});
  }
  ~Bombs() override { std::filesystem::remove(path_); }

  void append_bytes(const std::string& bytes) const { std::ofstream(path_, std::ios::binary | std::ios::app) << bytes; }

  // As an attacker writes it: without what the writer of ours adds. `padded_to`: bytes that decompress to nothing.
  std::size_t append_frame(const RawTick& raw, std::size_t padded_to = 0) const
  {
    std::string compressed(ZSTD_compressBound(raw.size()), '\0');
    compressed.resize(ZSTD_compress(compressed.data(), compressed.size(), raw.data(), raw.size(), 1));
    if (compressed.size() < padded_to) {
      const std::array<std::uint32_t, 2> pad = {ZSTD_MAGIC_SKIPPABLE_START,
                                                static_cast<std::uint32_t>(padded_to - compressed.size())};
      compressed += std::string(reinterpret_cast<const char*>(pad.data()), sizeof pad) + std::string(pad[1], '\0');
    }
    const std::array<std::uint32_t, 3> frame = {0x4b434954, static_cast<std::uint32_t>(compressed.size()),
                                                static_cast<std::uint32_t>(raw.size())};
    append_bytes(std::string(reinterpret_cast<const char*>(frame.data()), sizeof frame) + compressed);
    return compressed.size();
  }

  // In a child that may not take more than kReplayBytes.
  Outcome replay() const
  {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(ends[1], STDERR_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);
      limit_memory();
      Recorded recorded;
      recorded.name = path_;
      cli::Options options = options_of(recorded);
      options.file = path_;
      const int code = cli::run_replay(options);
      std::fflush(nullptr);
      ::_exit(code);
    }
    ::close(ends[1]);
    Outcome outcome;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
      outcome.errors.append(buffer.data(), static_cast<std::size_t>(got));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
      outcome.died = std::string("signal ") + ::strsignal(WTERMSIG(status)) + ", within " +
                     std::to_string(kReplayBytes >> 20) + " MiB";
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
  }

  std::string path_;

 private:
  static void limit_memory()
  {
    if (!kLimitsMemory) return;
    unsigned long pages[6] = {};  // proc(5): size resident shared text lib data
    if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
      if (std::fscanf(file, "%lu %lu %lu %lu %lu %lu", &pages[0], &pages[1], &pages[2], &pages[3], &pages[4],
                      &pages[5]) != 6)
        ::_exit(99);
      std::fclose(file);
    }
    const rlim_t bytes = pages[5] * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + kReplayBytes;
    const rlimit limit{bytes, bytes};
    if (::setrlimit(RLIMIT_DATA, &limit) != 0) ::_exit(99);
  }
};

constexpr __u16 kCheapKinds[] = {LAGGARD_RECORD_SOCKET,  LAGGARD_RECORD_GONE,    LAGGARD_RECORD_HOLDER,
                                 LAGGARD_RECORD_PROCESS, LAGGARD_RECORD_POOLED,  LAGGARD_RECORD_GROWTH,
                                 LAGGARD_RECORD_PAIR,    LAGGARD_RECORD_WORKLOAD};

TEST_F(Bombs, EightBytesOfEachKindExpandTooFar)
{
  const std::uintmax_t header = std::filesystem::file_size(path_);
  for (const __u16 kind : kCheapKinds) {
    std::filesystem::resize_file(path_, header);
    EXPECT_LT(append_frame(filled_with(record_of(kind, 8), kBombBytes)), 24'000U) << kind;
    const Outcome outcome = replay();
    EXPECT_EQ(outcome.died, "") << kind;
    EXPECT_THAT(outcome.errors, HasSubstr("damaged after tick 0: ")) << kind;
    EXPECT_THAT(outcome.errors, HasSubstr(fmt::format("bytes would become {}, and 512 times as many is the limit",
                                                      sizeof(laggard_tick_record) + kBombBytes)))
        << kind;
  }
}

// Paid for in bytes that are nothing.
TEST_F(Bombs, EightBytesOfEachKindAreNoRecord)
{
  const std::uintmax_t header = std::filesystem::file_size(path_);
  const std::size_t bytes = 12U << 20;
  for (const __u16 kind : kCheapKinds) {
    std::filesystem::resize_file(path_, header);
    append_frame(filled_with(record_of(kind, 8), bytes), bytes / kMaxExpansion + 1);
    const Outcome outcome = replay();
    EXPECT_EQ(outcome.died, "") << kind;
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr(fmt::format(" record at offset {} has 8 bytes, and ", sizeof(laggard_tick_record))),
                                      HasSubstr("is the least")))
        << kind;
  }
}

TEST_F(Bombs, SocketsOfTheFirstVersionExpandTooFar)
{
  RawTick socket;
  append(socket, stuck(1), 368);
  EXPECT_LT(append_frame(filled_with(socket, kBombBytes)), 24'000U);
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_THAT(outcome.errors, HasSubstr("and 512 times as many is the limit"));
}

TEST_F(Bombs, WhatExpandsAsFarAsItMayReplaysInBoundedMemory)
{
  const std::size_t bytes = 24'000 * kMaxExpansion;
  append_frame(stuck_sockets(1, bytes, 0), bytes / kMaxExpansion + 1);
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_EQ(outcome.errors, "");
}

TEST_F(Bombs, UnknownKindsExpandTooFar)
{
  append_frame(filled_with(record_of(999, 8), kBombBytes));
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_THAT(outcome.errors, HasSubstr("and 512 times as many is the limit"));
}

TEST_F(Bombs, UnknownKindsThatArePaidForTakeNoMoreThanTheirBytes)
{
  append_frame(filled_with(record_of(999, 8), kBombBytes), kBombBytes / kMaxExpansion + 1);
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_EQ(outcome.errors, "");
}

TEST_F(Bombs, ATickOfItsHeaderAloneIsNone)
{
  append_frame(record_of(LAGGARD_RECORD_TICK, 8));
  EXPECT_THAT(replay().errors,
              HasSubstr("TICK record at offset 0 has 8 bytes, and 104 is the least that any version wrote"));
}

TEST_F(Bombs, ManyFramesTakeNoMoreThanTheirSockets)
{
  const std::size_t bytes = 48'000;
  for (std::uint64_t frame = 0; frame < 256; frame++)
    append_frame(stuck_sockets(1 + frame * 1000, bytes, frame), bytes / kMaxExpansion + 1);
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_EQ(outcome.errors, "");
}

// 1 MiB of empty objects took 73 MB.
TEST_F(Bombs, AHeaderIsNoTree)
{
  std::ifstream file(path_, std::ios::binary);
  std::string preamble(20, '\0');
  file.read(preamble.data(), 20);
  std::string json = R"({"hooks":[{})";
  while (json.size() < (1U << 20) - 5) json += ",{}";
  json += "]}";
  const auto size = static_cast<std::uint32_t>(json.size());
  std::memcpy(preamble.data() + 16, &size, sizeof size);
  std::ofstream(path_, std::ios::binary) << preamble << json;
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_THAT(outcome.errors, HasSubstr("has a damaged header: it claims "));
}

// A length is no promise.
TEST_F(Bombs, AFrameThatIsNotThereReservesNothing)
{
  const std::array<std::uint32_t, 3> frame = {0x4b434954, 200U << 20, 200U << 20};
  append_bytes(std::string(reinterpret_cast<const char*>(frame.data()), sizeof frame) + "short");
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_THAT(outcome.errors, HasSubstr("ends within a tick"));
}

// Whatever was seen can be replayed, however much of it is the same.
TEST_F(Bombs, OurOwnWriterPadsWhatExpandsTooFar)
{
  {
    auto writer = source::RecordingWriter::create(path_, {});
    ASSERT_TRUE(writer);
    RawTick socket;
    append(socket, stuck(1), 368);
    ASSERT_TRUE((*writer)->write(filled_with(socket, 8U << 20)));
  }
  const Outcome outcome = replay();
  EXPECT_EQ(outcome.died, "");
  EXPECT_EQ(outcome.errors, "");
}

}  // namespace
}  // namespace laggard::test
