// SPDX-License-Identifier: MIT
#include "source/live/memory_limit.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace laggard::source::live {
namespace {

namespace fs = std::filesystem;

class MemoryLimit : public testing::Test {
 protected:
  MemoryLimit()
  {
    std::string name = (fs::temp_directory_path() / "laggard-memory-limit-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  ~MemoryLimit() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) const
  {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void process_in(const std::string& cgroup) const { put("proc/4121/cgroup", cgroup); }
  // As cgroup v2 shows a group; "" is no such file.
  void v2(const std::string& path, const std::string& max, const std::string& current, const std::string& file_pages = "") const
  {
    const std::string directory = "sys/fs/cgroup" + path + "/";
    if (!max.empty())
      put(directory + "memory.max", max + "\n");
    if (!current.empty())
      put(directory + "memory.current", current + "\n");
    if (!file_pages.empty())
      put(directory + "memory.stat", "anon 7\nfile " + file_pages + "\nfile_mapped 999999\nkernel 11\n");
  }
  void v1(const std::string& path, const std::string& limit, const std::string& usage, const std::string& cache) const
  {
    const std::string directory = "sys/fs/cgroup/memory" + path + "/";
    put(directory + "memory.limit_in_bytes", limit + "\n");
    put(directory + "memory.usage_in_bytes", usage + "\n");
    put(directory + "memory.stat", "cache 3\nrss 5\ntotal_cache " + cache + "\ntotal_rss 13\n");
  }
  void expect(std::uint64_t limit, std::uint64_t headroom) const
  {
    const MemoryRoom room = memory_room_of(4121, root_.string());
    EXPECT_EQ(room.limit_bytes, limit);
    EXPECT_EQ(room.headroom_bytes, headroom);
  }

  fs::path root_;
};

TEST_F(MemoryLimit, SharedMemoryIsNoCacheThatCanBeReclaimed)
{
  process_in("0::/pod\n");
  v2("/pod", "1000000", "600000");
  put("sys/fs/cgroup/pod/memory.stat", "anon 7\nfile 500000\nshmem 400000\n");
  expect(1000000, 500000);
}

TEST_F(MemoryLimit, AGroupOutsideOfOurNamespaceIsNotLookedForInIt)
{
  process_in("0::/../../kubepods/pod\n");
  v2("", "1000000", "999999");
  expect(0, 0);
}

TEST_F(MemoryLimit, AProcessThatIsGoneHasNone) { expect(0, 0); }

TEST_F(MemoryLimit, WhatIsNotLimitedHasNone)
{
  process_in("0::/user.slice\n");
  expect(0, 0);  // no such files: not mounted here
  v2("/user.slice", "max", "1000003", "13");
  expect(0, 0);
}

TEST_F(MemoryLimit, PageCacheCountsAsFree)
{
  process_in("0::/pod\n");
  v2("/pod", "1000003", "500009", "100003");
  expect(1'000'003, 1'000'003 - (500'009 - 100'003));
}

TEST_F(MemoryLimit, WithoutStatisticsEverythingUsedIsUsed)
{
  process_in("0::/pod\n");
  v2("/pod", "1000003", "500009");
  expect(1'000'003, 499'994);
}

TEST_F(MemoryLimit, MoreFilePagesThanUsageIsNotLessThanNothing)
{
  process_in("0::/pod\n");
  v2("/pod", "1000003", "7", "11");  // the two are read one after the other
  expect(1'000'003, 1'000'003);
}

TEST_F(MemoryLimit, BeyondItThereIsNoRoomButALimit)
{
  process_in("0::/pod\n");
  v2("/pod", "1009", "2003");
  expect(1009, 0);
}

TEST_F(MemoryLimit, OfNestedLimitsTheLeastRoomWins)
{
  process_in("0::/kubepods/pod7/container\n");
  v2("/kubepods/pod7/container", "900007", "100003");   // 800 004
  v2("/kubepods/pod7", "1000003", "900001");            // 100 002: the pod's others use it up
  v2("/kubepods", "max", "950000");
  expect(1'000'003, 100'002);
  v2("/kubepods/pod7/container", "100019", "100003");  // 16
  expect(100'019, 16);
  v2("/kubepods", "960000", "959993");  // 7
  expect(960'000, 7);
}

TEST_F(MemoryLimit, ALevelThatCannotBeReadDoesNotHideTheOneAbove)
{
  process_in("0::/kubepods/pod7/container\n");
  v2("/kubepods", "1000003", "900001");
  v2("/kubepods/pod7", "1009", "");
  v2("/kubepods/pod7/container", "", "17");
  expect(1'000'003, 100'002);
}

TEST_F(MemoryLimit, ARootOfItsOwnAsContainersSeeIt)
{
  process_in("0::/\n");
  v2("", "1000003", "900001");
  expect(1'000'003, 100'002);
}

TEST_F(MemoryLimit, VersionOneKnowsThePathsOfItsControllers)
{
  process_in("12:cpu,cpuacct:/elsewhere\n9:hugetlb,memory:/docker/abc\n1:name=systemd:/init.scope\n0::/init.scope\n");
  v1("/docker/abc", "1000003", "500009", "100003");
  v1("/docker", "9223372036854771712", "600000", "0");  // how version 1 writes "none"
  v1("", "9223372036854771712", "700000", "0");
  v1("/elsewhere", "17", "13", "0");
  expect(1'000'003, 1'000'003 - (500'009 - 100'003));
}

TEST_F(MemoryLimit, BothVersionsAtOnce)
{
  process_in("9:memory:/docker/abc\n0::/system.slice/x.service\n");
  v1("/docker/abc", "1000003", "500009", "0");
  put("sys/fs/cgroup/unified/system.slice/x.service/memory.max", "300007\n");
  put("sys/fs/cgroup/unified/system.slice/x.service/memory.current", "300000\n");
  expect(300'007, 7);
}

TEST_F(MemoryLimit, PathsMayHoldColonsAndFilesMayHoldAnything)
{
  process_in("\nnonsense\n0:no second colon\n0::/a:b\n");
  v2("/a:b", "1009", "1000");
  expect(1009, 9);
  v2("/a:b", "many", "1000");
  expect(0, 0);
  v2("/a:b", "99999999999999999999999", "1000");
  expect(0, 0);
}

TEST(MemoryLimitLive, OfThisProcessItIsNoMoreThanItsLimit)
{
  const MemoryRoom room = memory_room_of(static_cast<std::uint32_t>(::getpid()));
  EXPECT_LE(room.headroom_bytes, room.limit_bytes);
}

}  // namespace
}  // namespace laggard::source::live
