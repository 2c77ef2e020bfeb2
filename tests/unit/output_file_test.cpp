// SPDX-License-Identifier: MIT
#include "output/output_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/temporary_root.h"

namespace laggard::output {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string content(const fs::path& path)
{
  std::ostringstream text;
  text << std::ifstream{path}.rdbuf();
  return text.str();
}

void put(int fd, std::string_view text)
{
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST(OutputFile, AppendsToWhatIsThere)
{
  const test::TemporaryRoot root;
  const fs::path path = fs::path(root.path()) / "out";
  std::ofstream{path} << "before\n";
  ASSERT_EQ(::chmod(path.c_str(), 0604), 0);
  auto file = OutputFile::open(path, 65533);
  ASSERT_TRUE(file);
  put(file->fd(), "after\n");
  EXPECT_EQ(content(path), "before\nafter\n");
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0604U);
  EXPECT_EQ(status.st_uid, ::geteuid());  // it was somebody's
}

TEST(OutputFile, IsMadeForWhoWillReopenIt)
{
  const test::TemporaryRoot root;
  const fs::path path = fs::path(root.path()) / "out";
  const mode_t mask = ::umask(022);
  ASSERT_TRUE(OutputFile::open(path, 65533));
  ::umask(mask);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
  EXPECT_EQ(status.st_uid, ::geteuid() == 0 ? 65533U : ::geteuid());
  EXPECT_EQ(status.st_gid, ::getegid());
}

TEST(OutputFile, ReopensWhatThePathNamesThen)
{
  const test::TemporaryRoot root;
  const fs::path path = fs::path(root.path()) / "out";
  auto file = OutputFile::open(path);
  ASSERT_TRUE(file);
  const int fd = file->fd();
  put(fd, "one\n");
  fs::rename(path, fs::path(root.path()) / "out.1");
  put(fd, "two\n");
  ASSERT_TRUE(file->reopen());
  EXPECT_EQ(file->fd(), fd);
  put(fd, "three\n");
  EXPECT_EQ(content(fs::path(root.path()) / "out.1"), "one\ntwo\n");
  EXPECT_EQ(content(path), "three\n");
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

TEST(OutputFile, KeepsTheFormerWhereThereIsNoOther)
{
  const test::TemporaryRoot root;
  fs::create_directory(fs::path(root.path()) / "logs");
  auto file = OutputFile::open(fs::path(root.path()) / "logs/out");
  ASSERT_TRUE(file);
  fs::rename(fs::path(root.path()) / "logs", fs::path(root.path()) / "old");
  const auto reopened = file->reopen();
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().code, std::errc::no_such_file_or_directory);
  put(file->fd(), "kept\n");
  EXPECT_EQ(content(fs::path(root.path()) / "old/out"), "kept\n");
}

TEST(OutputFile, RefusesWhatIsNoFile)
{
  const test::TemporaryRoot root;
  EXPECT_FALSE(OutputFile::open(root.path()));
  EXPECT_FALSE(OutputFile::open(fs::path(root.path()) / "nowhere/out"));
  const fs::path fifo = fs::path(root.path()) / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_FALSE(OutputFile::open(fifo));  // nobody reads it
  const Fd reader{::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  const auto read = OutputFile::open(fifo);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message(), HasSubstr("no regular file"));
  EXPECT_TRUE(OutputFile::open("/dev/null"));
}

TEST(OutputFile, WhatTruncatesStandardOutputLeavesNoHole)
{
  const test::TemporaryRoot root;
  const fs::path path = fs::path(root.path()) / "out";
  const Fd out{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  append_always(out.get());
  put(out.get(), "one\n");
  ASSERT_EQ(::truncate(path.c_str(), 0), 0);
  put(out.get(), "two\n");
  EXPECT_EQ(content(path), "two\n");
}

}  // namespace
}  // namespace laggard::output
