// SPDX-License-Identifier: MIT
#include "source/recording.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/wire.h"

namespace laggard::source {
namespace {

using test::append;
using testing::AnyOf;
using testing::HasSubstr;

class Recording : public testing::Test {
 protected:
  Recording()
  {
    std::string name = (std::filesystem::temp_directory_path() / "laggard-recording-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~Recording() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name = "ticks.laggard") const { return (directory_ / name).string(); }

  void put(const std::string& bytes, const std::string& name = "ticks.laggard") const
  {
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  std::string get(const std::string& name = "ticks.laggard") const
  {
    std::ostringstream bytes;
    bytes << std::ifstream(path(name), std::ios::binary).rdbuf();
    return bytes.str();
  }

  static RawTick tick(std::uint64_t number)
  {
    RawTick raw;
    laggard_tick_record head{};
    head.mono_ns = 1'000'000'000 * (number + 1);
    head.page_bytes = 4096;
    append(raw, head);
    for (std::uint64_t i = 0; i < number; i++)
      append(raw, laggard_gone_record{{}, i, number});
    return raw;
  }

  static RecordingHeader header()
  {
    RecordingHeader result;
    result.observer.version = "0.1.0";
    result.observer.host_name = "host\xff\"\n";  // as the host named itself
    result.observer.node_name = "node";
    result.observer.kernel = "6.12.0";
    result.observer.hooks = {{"reads", "tp_btf/sock_recv_length", ""}, {"sweep", "", "refused"}};
    result.observer.missing = {"executable paths"};
    return result;
  }

  void write(std::uint64_t ticks) const
  {
    auto writer = RecordingWriter::create(path(), header());
    ASSERT_TRUE(writer) << writer.error().message();
    for (std::uint64_t i = 0; i < ticks; i++)
      ASSERT_TRUE((*writer)->write(tick(i)));
  }

  struct Read {
    std::uint64_t ticks = 0;
    bool truncated = false;
    std::string error;
    bool opened = false;
  };
  // Whatever comes out must be what went in.
  Read read() const
  {
    Read result;
    auto reader = RecordingReader::open(path());
    if (!reader) {
      result.error = reader.error().message();
      return result;
    }
    result.opened = true;
    for (;;) {
      auto raw = (*reader)->next();
      if (!raw) {
        result.error = raw.error().message();
        break;
      }
      if (!*raw)
        break;
      EXPECT_EQ(**raw, tick(result.ticks));
      result.ticks++;
    }
    result.truncated = (*reader)->truncated();
    return result;
  }

  std::filesystem::path directory_;
};

TEST_F(Recording, GivesBackWhatWasWritten)
{
  write(7);
  const Read result = read();
  EXPECT_EQ(result.ticks, 7U);
  EXPECT_FALSE(result.truncated);
  EXPECT_EQ(result.error, "");
  auto reader = RecordingReader::open(path());
  const model::Observer& observer = (*reader)->header().observer;
  EXPECT_EQ(observer.version, "0.1.0");
  EXPECT_THAT(observer.host_name, testing::StartsWith("host"));
  EXPECT_EQ(observer.node_name, "node");
  EXPECT_EQ(observer.kernel, "6.12.0");
  ASSERT_EQ(observer.hooks.size(), 2U);
  EXPECT_EQ(observer.hooks[0].hook, "tp_btf/sock_recv_length");
  EXPECT_EQ(observer.hooks[1].note, "refused");
  EXPECT_EQ(observer.hooks_text(), "reads=tp_btf/sock_recv_length");
  EXPECT_EQ(observer.missing, std::vector<std::string>{"executable paths"});
  EXPECT_EQ(observer.replayed_from, "");
}

TEST_F(Recording, IsForItsOwnerOnly)
{
  write(1);
  EXPECT_EQ(std::filesystem::status(path()).permissions() & std::filesystem::perms::mask,
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(Recording, WithoutATickIsEmptyAndWhole)
{
  write(0);
  const Read result = read();
  EXPECT_EQ(result.ticks, 0U);
  EXPECT_FALSE(result.truncated);
  EXPECT_EQ(result.error, "");
}

TEST_F(Recording, CutAnywhereGivesTheWholeTicksInFrontOfTheCut)
{
  std::vector<std::size_t> ends;  // of the header, then of each tick
  for (std::uint64_t ticks = 0; ticks <= 3; ticks++) {
    write(ticks);
    ends.push_back(get().size());
  }
  const std::string whole = get();
  for (std::size_t length = 0; length <= whole.size(); length++) {
    put(whole.substr(0, length));
    const Read result = read();
    if (length < ends[0]) {
      EXPECT_FALSE(result.opened) << length;
      EXPECT_THAT(result.error, AnyOf(HasSubstr("is not a laggard recording"), HasSubstr("ends within its header")));
      continue;
    }
    const auto beyond = std::ranges::upper_bound(ends, length);
    ASSERT_TRUE(result.opened) << length;
    EXPECT_EQ(result.error, "") << length;
    EXPECT_EQ(result.ticks, static_cast<std::uint64_t>(beyond - ends.begin() - 1)) << length;
    EXPECT_EQ(result.truncated, std::ranges::find(ends, length) == ends.end()) << length;
  }
}

TEST_F(Recording, AFlippedByteIsAnErrorOrSeenAsTheEndAndNeverAnotherTick)
{
  write(3);
  const std::string whole = get();
  for (std::size_t at = 0; at < whole.size(); at++)
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      put(damaged);
      const Read result = read();  // compares the ticks
      EXPECT_LE(result.ticks, 3U);
      if (result.opened && result.ticks < 3) {
        EXPECT_TRUE(result.truncated || result.error.find("damaged") != std::string::npos) << at << " " << result.error;
      }
    }
}

TEST_F(Recording, BytesBehindTheLastTickAreDamage)
{
  write(2);
  put(get() + "0123456789ab");
  const Read result = read();
  EXPECT_EQ(result.ticks, 2U);
  EXPECT_THAT(result.error, HasSubstr("damaged after tick 2"));
}

TEST_F(Recording, AForeignFileIsNamedAsSuch)
{
  put("#!/bin/sh\necho something that is longer than a preamble\n");
  EXPECT_THAT(read().error, HasSubstr("is not a laggard recording"));
  put("");
  EXPECT_THAT(read().error, HasSubstr("is not a laggard recording"));
  std::filesystem::remove(path());
  EXPECT_THAT(read().error, HasSubstr("No such file"));
  std::filesystem::create_directory(path());
  EXPECT_FALSE(read().opened);
}

TEST_F(Recording, OtherByteOrdersAndVersionsAreNamed)
{
  write(1);
  const std::string whole = get();
  std::string swapped = whole;
  std::reverse(swapped.begin() + 12, swapped.begin() + 16);
  put(swapped);
  EXPECT_THAT(read().error, HasSubstr("other byte order"));
  std::string newer = whole;
  newer[8] = 2;
  put(newer);
  EXPECT_THAT(read().error, HasSubstr("format version 2"));
}

TEST_F(Recording, ALengthThatIsNotThereReservesNoMemoryForIt)
{
  write(0);
  const std::string whole = get();
  const auto frame = [](std::uint32_t compressed, std::uint32_t raw) {
    std::array<std::uint32_t, 3> head = {0x4b434954, compressed, raw};
    return std::string(reinterpret_cast<const char*>(head.data()), sizeof head);
  };
  put(whole + frame(0xffffffff, 100));
  EXPECT_THAT(read().error, HasSubstr("damaged"));
  put(whole + frame(100, 0xffffffff));
  EXPECT_THAT(read().error, HasSubstr("damaged"));
  put(whole + frame(200 << 20, 200 << 20) + "short");
  EXPECT_TRUE(read().truncated);
  put(whole + frame(1000, 600'000) + std::string(1000, 'x'));
  EXPECT_THAT(read().error, HasSubstr("damaged after tick 0: 1000 bytes would become 600000, and 512 times as many is the limit"));
  put(whole + frame(0, 0));
  EXPECT_THAT(read().error, HasSubstr("damaged"));
}

TEST_F(Recording, ReplacesARecordingAndNothingElse)
{
  write(5);
  write(2);
  EXPECT_EQ(read().ticks, 2U);

  const std::string precious = "LAGGARD but not\n";
  for (const std::string& content : {precious, std::string("x"), std::string("LAGGARD")}) {
    put(content);
    const auto writer = RecordingWriter::create(path(), header());
    ASSERT_FALSE(writer);
    EXPECT_THAT(writer.error().message(), HasSubstr("name another file"));
    EXPECT_EQ(get(), content);
  }
  put("");
  EXPECT_TRUE(RecordingWriter::create(path(), header()));
}

TEST_F(Recording, WhatCannotBeCreatedIsNamed)
{
  const auto writer = RecordingWriter::create(path("no/such/directory/file"), header());
  ASSERT_FALSE(writer);
  EXPECT_THAT(writer.error().message(), HasSubstr("no/such/directory/file: No such file"));
}

TEST_F(Recording, AFullDiskIsAnErrorOfTheWrite)
{
  auto writer = RecordingWriter::create("/dev/full", header());
  ASSERT_FALSE(writer);
  EXPECT_THAT(writer.error().message(), HasSubstr("No space left"));
}

// Takes the place of a standard descriptor while it lives.
class Redirected {
 public:
  Redirected(int fd, const std::string& path, int flags) : fd_(fd), saved_(::dup(fd))
  {
    Fd file{::open(path.c_str(), flags | O_CLOEXEC, 0600)};
    ::dup2(file.get(), fd_);
  }
  ~Redirected() { ::dup2(saved_.get(), fd_); }

 private:
  int fd_;
  Fd saved_;
};

TEST_F(Recording, ADashIsStandardOutputAndInput)
{
  {
    const Redirected output{1, path(), O_WRONLY | O_CREAT | O_TRUNC};
    auto writer = RecordingWriter::create("-", header());
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->write(tick(4)));
  }
  const Redirected input{0, path(), O_RDONLY};
  auto reader = RecordingReader::open("-");
  ASSERT_TRUE(reader) << reader.error().message();
  auto raw = (*reader)->next();
  ASSERT_TRUE(raw && *raw);
  EXPECT_EQ(**raw, tick(4));
}

}  // namespace
}  // namespace laggard::source
