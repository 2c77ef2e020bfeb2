// SPDX-License-Identifier: MIT
#include "identify/workload.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "support/temporary_root.h"

namespace laggard::identify {
namespace {

const std::string kId = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
const std::string kOtherId = "3478f52e81a32b2b147fbd1958bcb7bbb9837b6808493da9f421fa822e3bd311";
const std::string kUid = "0f1e2d3c-1111-2222-3333-444455556666";
const std::string kPodSlice =
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f1e2d3c_1111_2222_3333_444455556666.slice";
const std::string kScope = kPodSlice + "/cri-containerd-" + kId + ".scope";
const std::string kV2 = "sys/fs/cgroup";
const std::string kHybrid = "sys/fs/cgroup/unified";
constexpr std::uint64_t kStartNs = 4'127'990'000'123;

class WorkloadTest : public testing::Test {
 protected:
  WorkloadTest() { root_.directory("proc"); }

  void process(std::uint32_t tgid, const std::string& cgroups, const std::string& state = "S",
               unsigned flags = 0x400000, std::uint64_t start_ns = kStartNs) const
  {
    const std::string directory = "proc/" + std::to_string(tgid);
    root_.file(directory + "/cgroup", cgroups);
    root_.file(directory + "/stat", std::to_string(tgid) + " (a) R (b\n) " + state + " 1 2 3 0 -1 " +
                                        std::to_string(flags) + " 0 0 0 0 0 0 0 0 20 0 1 0 " +
                                        std::to_string(start_ns / 10'000'000) + " 4096 7\n");
  }
  // Its id.
  std::uint64_t group(const std::string& path, const std::string& mount = kV2) const
  {
    root_.file(mount + "/cgroup.controllers");
    root_.file(mount + path + "/cgroup.controllers");
    return root_.inode(mount + path);
  }
  void log() const
  {
    const std::string log = "/var/log/pods/shop_cart_" + kUid + "/web/0.log";
    root_.file(log.substr(1));
    root_.link("var/log/containers/cart_shop_web-" + kId + ".log", log);
  }
  Workloads workloads()
  {
    return Workloads(root_.path(), true, [this] { return now_; });
  }
  void wait(Duration time) { now_ += time; }

  static Workload in_pod() { return {kId, "containerd", "shop", "cart", kUid, "web", "", ""}; }
  static Workload unit(const std::string& name) { return {"", "", "", "", "", "", name, ""}; }

  test::TemporaryRoot root_;
  MonoTime now_ = mono_time(1'000'000'000'000);
};

TEST_F(WorkloadTest, OfALivingProcessItsCgroupFileTells)
{
  process(17, "0::" + kScope + "\n");
  process(19, "0::/system.slice/foo.service\n");
  process(23, "9:pids:/docker/" + kOtherId + "\n1:name=systemd:/\n0::/\n");
  process(29, "0::/\n");
  log();
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
  EXPECT_EQ(workloads.of(19, kStartNs, 0), unit("foo.service"));
  EXPECT_EQ(workloads.of(23, kStartNs, 0), (Workload{kOtherId, "docker", "", "", "", "", "", ""}));
  EXPECT_EQ(workloads.of(29, kStartNs, 0), Workload{});
  EXPECT_TRUE(workloads.of(31, kStartNs, 0).empty());
  EXPECT_EQ(workloads.of(17, 0, 0), in_pod()) << "when it began is not known";
}

TEST_F(WorkloadTest, ANumberThatIsAnothersNowTellsNothing)
{
  process(17, "0::/system.slice/foo.service\n");
  Workloads workloads = this->workloads();
  EXPECT_TRUE(workloads.of(17, kStartNs - 10'000'000, 0).empty());
  EXPECT_TRUE(workloads.of(17, kStartNs + 10'000'000, 0).empty());
  EXPECT_EQ(workloads.of(17, kStartNs + 1, 0).systemd_unit, "foo.service") << "the kernel shows hundredths of a second";
}

TEST_F(WorkloadTest, WhatWasSeenOnceIsKeptAfterTheExit)
{
  process(17, "0::" + kScope + "\n");
  log();
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
  root_.remove("proc/17");
  root_.remove("var");
  for (int i = 0; i < 3; ++i) {
    wait(std::chrono::hours(1));
    EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
  }
  process(17, "0::/system.slice/foo.service\n", "S", 0, kStartNs + 1'000'000'000);
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
  EXPECT_EQ(workloads.of(17, kStartNs + 1'000'000'000, 0), unit("foo.service"));
}

TEST_F(WorkloadTest, OneThatExitsKeepsWhatItWas)
{
  const std::string pod = "/kubepods/burstable/pod" + kUid + "/" + kId;
  process(17, "9:pids:" + pod + "\n1:name=systemd:" + pod + "\n0::/system.slice/containerd.service\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0).container_id, kId);
  wait(std::chrono::minutes(1));
  const std::string at_exit = "9:pids:/\n1:name=systemd:/\n0::/system.slice/containerd.service\n";
  process(17, at_exit, "Z");
  process(19, at_exit, "R", 0x400004);
  EXPECT_EQ(workloads.of(17, kStartNs, 0).container_id, kId);
  EXPECT_TRUE(workloads.of(19, kStartNs, 0).empty()) << "v1 has forgotten it, and v2 never knew";
}

TEST_F(WorkloadTest, OneThatExitedIsNotWhereItsSocketWasMade)
{
  const std::uint64_t listeners = group("/system.slice/docker-" + kOtherId + ".scope", kHybrid);
  process(17, "0::/system.slice/foo.service\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 7), unit("foo.service"));
  root_.remove("proc/17");
  EXPECT_EQ(workloads.of(17, kStartNs, listeners), unit("foo.service"));
}

TEST_F(WorkloadTest, WhatAProcessSaidCountsMoreThanTheIdOfItsGroup)
{
  const std::uint64_t node = group("/system.slice/docker-" + kOtherId + ".scope", kHybrid);
  const std::string inner = "/docker/" + kOtherId + "/kubepods/pod" + kUid + "/" + kId;
  process(17, "9:pids:" + inner + "\n0::/system.slice/docker-" + kOtherId + ".scope\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, node).container_id, kId);
  root_.remove("proc/17");
  wait(std::chrono::minutes(1));
  EXPECT_EQ(workloads.of(17, kStartNs, node).container_id, kId);
  EXPECT_EQ(workloads.of(19, kStartNs, node).container_id, kOtherId) << "the best that can be had";
}

TEST_F(WorkloadTest, NamesOutliveTheLogs)
{
  process(17, "0::" + kScope + "\n");
  log();
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
  root_.remove("var/log");
  root_.directory("var/log/containers");
  root_.directory("var/log/pods");
  process(19, "0::/kubepods/pod1" + kUid.substr(1) + "/" + kOtherId + "\n");
  EXPECT_EQ(workloads.of(19, kStartNs, 0).k8s_pod_name, "");  // has read what there is
  wait(std::chrono::minutes(1));
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
}

TEST_F(WorkloadTest, OneThatIsMovedIsLookedAtAgain)
{
  const std::uint64_t service = group("/system.slice/containerd.service");
  const std::uint64_t scope = group(kScope);
  process(17, "0::/system.slice/containerd.service\n");
  log();
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, service), unit("containerd.service"));
  process(17, "0::" + kScope + "\n");
  EXPECT_EQ(workloads.of(17, kStartNs, service), unit("containerd.service")) << "not at once";
  EXPECT_EQ(workloads.of(17, kStartNs, scope), in_pod());
  process(17, "0::/system.slice/containerd.service\n");
  wait(Workloads::kLookAgain);
  EXPECT_EQ(workloads.of(17, kStartNs, scope), unit("containerd.service")) << "the file is younger than the id";
}

TEST_F(WorkloadTest, NamesThatComeLaterAreFound)
{
  process(17, "0::" + kScope + "\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0), (Workload{kId, "containerd", "", "", kUid, "", "", ""}));
  ASSERT_EQ(workloads.missing().size(), 2U);
  EXPECT_TRUE(workloads.missing()[1].starts_with("names of pods"));
  log();
  wait(Workloads::kLookAgainForMore);
  EXPECT_EQ(workloads.of(17, kStartNs, 0), in_pod());
}

TEST_F(WorkloadTest, OfShortLivedProcessesTheCgroupIdTells)
{
  const std::uint64_t scope = group(kScope);
  const std::uint64_t inner = group(kScope + "/system.slice/sshd.service");
  const std::uint64_t service = group("/system.slice/foo.service");
  const std::uint64_t slice = group("/system.slice");
  const std::uint64_t never_asked_for = group("/system.slice/bar.service");
  log();
  Workloads workloads = this->workloads();
  EXPECT_TRUE(workloads.missing().empty());
  EXPECT_EQ(workloads.of(17, kStartNs, scope), in_pod());
  EXPECT_EQ(workloads.of(0, 0, inner), in_pod()) << "whoever it was";
  EXPECT_EQ(workloads.of(19, kStartNs, service), unit("foo.service"));
  EXPECT_TRUE(workloads.of(21, kStartNs, slice).empty());
  EXPECT_TRUE(workloads.of(23, kStartNs, root_.inode(kV2)).empty()) << "the root says nothing";
  EXPECT_TRUE(workloads.of(29, kStartNs, 1ULL << 60).empty());
  EXPECT_TRUE(workloads.of(0, 0, 0).empty());
  root_.remove(kV2);
  EXPECT_EQ(workloads.of(31, kStartNs, scope), in_pod()) << "read once, and kept";
  EXPECT_EQ(workloads.of(37, kStartNs, service), unit("foo.service"));
  EXPECT_EQ(workloads.of(41, kStartNs, never_asked_for), unit("bar.service"));
}

TEST_F(WorkloadTest, WhatALivingProcessTellsOfItsGroupStaysKnown)
{
  const std::uint64_t scope = group(kScope);
  const std::uint64_t service = group("/system.slice/foo.service");
  process(17, "0::" + kScope + "\n");
  process(19, "0::/system.slice/foo.service\n");  // but it was in the scope when the kernel looked
  log();
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(19, kStartNs, scope), unit("foo.service"));
  EXPECT_EQ(workloads.of(17, kStartNs, scope), in_pod());
  root_.remove(kV2);
  EXPECT_EQ(workloads.of(23, kStartNs, scope), in_pod());
  EXPECT_TRUE(workloads.of(29, kStartNs, service).empty());
}

TEST_F(WorkloadTest, InHybridTheIdTellsContainersButNotUnits)
{
  const std::uint64_t scope = group(kScope, kHybrid);
  const std::uint64_t runtime = group("/system.slice/containerd.service", kHybrid);
  log();
  Workloads workloads = this->workloads();
  EXPECT_TRUE(workloads.missing().empty());
  EXPECT_EQ(workloads.of(17, kStartNs, scope), in_pod());
  EXPECT_TRUE(workloads.of(19, kStartNs, runtime).empty());
  process(19, "1:name=systemd:/system.slice/containerd.service\n0::/system.slice/containerd.service\n");
  wait(Workloads::kLookAgainForMore);
  EXPECT_EQ(workloads.of(19, kStartNs, runtime), unit("containerd.service"));
}

TEST_F(WorkloadTest, WhereOurNamespaceHidesThePathTheMountedTreeTells)
{
  const std::uint64_t scope = group(kScope);
  const std::uint64_t service = group("/system.slice/foo.service");
  process(17, "0::/../cri-containerd-" + kId + ".scope\n");  // beside us, in our pod
  process(19, "0::/\n");                                     // where we are
  process(23, "0::/../../../../system.slice/foo.service\n");
  process(29, "0::/../../../../../../elsewhere\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, scope).k8s_pod_uid, kUid);
  EXPECT_EQ(workloads.of(19, kStartNs, scope).container_id, kId);
  EXPECT_EQ(workloads.of(23, kStartNs, service), unit("foo.service"));
  EXPECT_EQ(workloads.of(29, kStartNs, scope).k8s_pod_uid, kUid);
}

TEST_F(WorkloadTest, InAPidNamespaceOfOurOwnNumbersAreNotTakenForOthers)
{
  const std::uint64_t scope = group(kScope);
  process(17, "0::/system.slice/wrong.service\n");
  log();
  root_.link("proc/self/ns/pid", "pid:[4026532601]");
  {
    Workloads workloads = this->workloads();
    EXPECT_EQ(workloads.of(17, kStartNs, scope).container_id, kId);
    EXPECT_TRUE(workloads.of(17, 0, 0).empty());
    ASSERT_EQ(workloads.missing().size(), 1U);
    EXPECT_NE(workloads.missing()[0].find("pid namespace"), std::string::npos);
  }
  process(2, "0::/\n", "S", 0x400000);  // no kernel thread
  EXPECT_EQ(workloads().missing().size(), 1U);
  process(2, "0::/\n", "S", 0x208040);  // a /proc of the host
  EXPECT_EQ(workloads().of(17, kStartNs, scope), unit("wrong.service"));
  root_.remove("proc/2");
  root_.remove("proc/self");
  root_.link("proc/self/ns/pid", "pid:[4026531836]");
  EXPECT_TRUE(workloads().missing().empty());
}

TEST_F(WorkloadTest, AHostileTreeIsHarmless)
{
  const std::uint64_t scope = group(kScope);
  root_.link(kV2 + "/loop", "..");
  root_.link(kV2 + "/kubepods.slice/loop", "../kubepods.slice");
  root_.file(kV2 + "/cgroup.procs", "1\n");
  std::string deep = kV2;
  for (int i = 0; i < 100; ++i) deep += "/a";
  root_.file(deep + "/cgroup.controllers");
  ASSERT_EQ(::mkfifo((root_.path() + "/" + kV2 + "/pipe").c_str(), 0600), 0);
  for (const std::string name : {"a\nb.service", "\x1b[31m.service", "\xff.scope"}) group("/system.slice/" + name);
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(0, 0, scope).container_id, kId);
  EXPECT_TRUE(workloads.of(0, 0, root_.inode(deep)).empty());
  EXPECT_TRUE(workloads.of(0, 0, root_.inode(kV2 + "/system.slice/a\nb.service")).empty());
}

TEST_F(WorkloadTest, ALargeTreeIsNotReadForEachQuestion)
{
  for (int i = 0; i < 100; ++i) group("/system.slice/job-" + std::to_string(i) + ".service");
  Workloads workloads = this->workloads();
  EXPECT_TRUE(workloads.of(0, 0, 1ULL << 60).empty());
  const std::uint64_t late = group("/system.slice/late.service");
  EXPECT_TRUE(workloads.of(17, kStartNs, late).empty());
  wait(std::chrono::seconds(2));
  EXPECT_EQ(workloads.of(17, kStartNs, late), unit("late.service"));
}

TEST_F(WorkloadTest, OddFilesOfProcessesAreHarmless)
{
  process(17, "0::" + kScope + "\n");
  Workloads workloads = this->workloads();
  for (const std::string text :
       {"", "17", "17 (a)", "17 (a) ", "17 (a) S 1 2", "17 (a) S 1 2 3 0 -1 x 0 0 0 0 0 0 0 0 20 0 1 0 9 9",
        "17 (a) S                                     "}) {
    root_.file("proc/17/stat", text);
    EXPECT_TRUE(workloads.of(17, kStartNs, 0).empty()) << text;
    wait(std::chrono::minutes(1));
  }
  process(17, std::string(1'000'000, '\n') + "0::" + kScope + "\n");
  EXPECT_TRUE(workloads.of(17, kStartNs, 0).empty());
}

TEST_F(WorkloadTest, OfManyProcessesTheLatestAreKept)
{
  process(17, "0::/system.slice/foo.service\n");
  Workloads workloads = this->workloads();
  EXPECT_EQ(workloads.of(17, kStartNs, 0), unit("foo.service"));
  root_.remove("proc/17");
  for (std::uint32_t tgid = 100; tgid < 100 + Workloads::kMaxProcesses / 2 - 1; ++tgid) workloads.of(tgid, kStartNs, 0);
  EXPECT_EQ(workloads.of(17, kStartNs, 0), unit("foo.service"));
  for (std::uint32_t tgid = 100'000; tgid < 100'000 + 2 * Workloads::kMaxProcesses; ++tgid)
    workloads.of(tgid, kStartNs, 0);
  EXPECT_TRUE(workloads.of(17, kStartNs, 0).empty());
}

TEST(WorkloadHere, WeAreSeenAsOurCgroupFileSays)
{
  Workloads workloads;
  std::string text;
  std::getline(std::ifstream("/proc/self/cgroup"), text, '\0');
  const Workload here = workloads.of(static_cast<std::uint32_t>(::getpid()), 0, 0);
  if (workloads.missing().empty() || !workloads.missing()[0].starts_with("containers and units by process")) {
    EXPECT_EQ(here.container_id, parse_process_cgroups(text).ref.container_id);
  }
}

TEST(Recent, KeepsAtLeastTheLaterHalf)
{
  Recent<int, int> recent(8);
  for (int i = 0; i < 100; ++i) {
    recent.put(i, i);
    EXPECT_LE(recent.size(), 8U);
    for (int j = std::max(0, i - 3); j <= i; ++j) {
      Recent<int, int> copy = recent;
      EXPECT_NE(copy.find(j), nullptr) << i << " " << j;
    }
  }
  EXPECT_EQ(recent.find(3), nullptr);
  ASSERT_NE(recent.find(99), nullptr);
  EXPECT_EQ(*recent.find(99), 99);
}

}  // namespace
}  // namespace laggard::identify
