// SPDX-License-Identifier: MIT
#include "source/live/workload_teller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temporary_root.h"
#include "support/wire.h"

namespace laggard::source::live {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kStartNs = 41'270'000'000;
const std::string kId(64, 'a');

class WorkloadTellerTest : public testing::Test {
 protected:
  void process(std::uint32_t tgid, const std::string& cgroup) const
  {
    const std::string directory = "proc/" + std::to_string(tgid);
    root_.file(directory + "/cgroup", "0::" + cgroup + "\n");
    root_.file(directory + "/stat", std::to_string(tgid) + " (x) S 1 2 3 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 " +
                                        std::to_string(kStartNs / 10'000'000) + " 4096 7\n");
  }
  static laggard_holder_record holder(std::uint32_t tgid)
  {
    laggard_holder_record record{};
    record.tgid = tgid, record.start_ns = kStartNs, record.cookie = 3;
    return record;
  }
  static laggard_process_record alive(std::uint32_t tgid, std::uint64_t cgroup_id = 0)
  {
    laggard_process_record record{};
    record.tgid = tgid, record.start_ns = kStartNs, record.cgroup_id = cgroup_id;
    return record;
  }
  static laggard_socket_record socket(std::uint32_t owner, std::uint64_t cgroup_id)
  {
    laggard_socket_record record{};
    record.owner_tgid = owner, record.owner_start_ns = owner != 0 ? kStartNs : 0, record.cgroup_id = cgroup_id;
    return record;
  }
  template <class... Records>
  std::vector<model::WorkloadSample> told(const Records&... records)
  {
    RawTick tick = test::raw_tick(laggard_tick_record{}, records...);
    now_ += 1s;
    teller_.tell(now_, 7, tick);
    const auto decoded = decode(tick);
    EXPECT_TRUE(decoded);
    return decoded ? decoded->workloads : std::vector<model::WorkloadSample>{};
  }
  static auto unit(std::uint32_t tgid, const std::string& name)
  {
    model::Workload workload;
    workload.systemd_unit = name;
    return testing::AllOf(testing::Field(&model::WorkloadSample::process, model::ProcessId{tgid, tgid != 0 ? kStartNs : 0}),
                          testing::Field(&model::WorkloadSample::workload, workload));
  }

  // A file system that does not sync.
  test::TemporaryRoot root_{"/dev/shm"};
  MonoTime now_{1000s};
  WorkloadTeller teller_{1.0, true, (root_.directory("proc"), root_.path())};
};

TEST_F(WorkloadTellerTest, TellsOnceOfEachProcessThatHasASocket)
{
  process(17, "/system.slice/a.service");
  process(19, "/system.slice/b.service");
  process(23, "/system.slice/c.service");
  EXPECT_THAT(told(alive(17), alive(19), alive(23), holder(17), holder(17), socket(23, 5)),
              testing::UnorderedElementsAre(unit(17, "a.service"), unit(23, "c.service")));
  EXPECT_THAT(told(alive(17), alive(19), alive(23), holder(17), holder(19), socket(23, 5)), ElementsAre(unit(19, "b.service")));
  EXPECT_THAT(told(alive(17), alive(19), alive(23)), IsEmpty());
}

TEST_F(WorkloadTellerTest, TellsTheCommandLineOnlyIfAsked)
{
  process(17, "/system.slice/a.service");
  const std::string arguments("/usr/bin/x\0--name\0two words\x1b[31m\0\0", 34);
  root_.file("proc/17/cmdline", arguments);
  const auto samples = told(alive(17), holder(17));
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples[0].workload.command_line, "/usr/bin/x --name two words\x1b[31m");
  WorkloadTeller discreet{1.0, false, root_.path()};
  RawTick tick = test::raw_tick(laggard_tick_record{}, alive(17), holder(17));
  discreet.tell(now_, 7, tick);
  EXPECT_EQ(decode(tick)->workloads.at(0).workload.command_line, "");
}

TEST_F(WorkloadTellerTest, SaysNothingOfWhatIsNotKnown)
{
  EXPECT_THAT(told(alive(17), holder(17)), IsEmpty());
  process(17, "/");
  EXPECT_THAT(told(alive(17), holder(17)), IsEmpty());
}

TEST_F(WorkloadTellerTest, WhoHasExitedIsKnownByTheCgroupThatTheKernelTold)
{
  root_.file("sys/fs/cgroup/cgroup.controllers");
  root_.file("sys/fs/cgroup/system.slice/docker-" + kId + ".scope/cgroup.controllers");
  const std::uint64_t group = root_.inode("sys/fs/cgroup/system.slice/docker-" + kId + ".scope");
  WorkloadTeller teller{1.0, true, root_.path()};
  RawTick tick = test::raw_tick(laggard_tick_record{}, socket(29, group), socket(0, group));
  teller.tell(now_, 7, tick);
  const auto decoded = decode(tick);
  ASSERT_TRUE(decoded);
  ASSERT_EQ(decoded->workloads.size(), 2U);  // of the process, and of the group
  for (const model::WorkloadSample& sample : decoded->workloads) {
    EXPECT_EQ(sample.workload.container_id, kId);
    EXPECT_EQ(sample.workload.container_runtime_name, "docker");
    EXPECT_EQ(sample.cgroup_id, group);
  }
}

TEST_F(WorkloadTellerTest, StaysWithinItsShareAndTellsTheRestLater)
{
  constexpr std::uint32_t kProcesses = 100;
  RawTick tick = test::raw_tick(laggard_tick_record{});
  for (std::uint32_t tgid = 1000; tgid < 1000 + kProcesses; tgid++) {
    process(tgid, "/system.slice/many.service");
    test::append(tick, alive(tgid));
    test::append(tick, holder(tgid));
  }
  // Reading the tick and looking at one process take longer than that.
  constexpr auto kMostAtOnce = 1ns;
  const auto told_by = [&](WorkloadTeller& teller) {
    RawTick copy = tick;
    now_ += 1s;
    teller.tell(now_, 7, copy);
    const auto decoded = decode(copy);
    EXPECT_TRUE(decoded);
    return decoded ? decoded->workloads.size() : 0;
  };
  WorkloadTeller teller{1.0, false, root_.path(), kMostAtOnce};
  for (std::uint32_t told = 0; told < kProcesses; told++)
    ASSERT_EQ(told_by(teller), 1U);  // who was not asked about yet
  EXPECT_EQ(told_by(teller), 0U);    // all are told

  WorkloadTeller poor{1e-9, false, root_.path(), kMostAtOnce};  // 1 ns a second
  EXPECT_EQ(told_by(poor), 1U);
  EXPECT_EQ(told_by(poor), 0U);  // that one took more than a microsecond: a thousand ticks to pay for
}

}  // namespace
}  // namespace laggard::source::live
