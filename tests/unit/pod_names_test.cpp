// SPDX-License-Identifier: MIT
#include "identify/pod_names.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/temporary_root.h"

namespace laggard::identify {
namespace {

const std::string kId = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
const std::string kOtherId = "3478f52e81a32b2b147fbd1958bcb7bbb9837b6808493da9f421fa822e3bd311";
const std::string kPauseId = "99b5fc39f7a3cd9f02ab0d0f4c3a7f2e5b1d8c6a4f3e2d1c0b9a8f7e6d5c4b3a";
const std::string kUid = "0f1e2d3c-1111-2222-3333-444455556666";
const std::string kOtherUid = "0f1e2d3c-1111-2222-3333-444455556667";
const std::string kLinks = "var/log/containers/";
const std::string kPods = "var/log/pods/";

class PodNamesTest : public testing::Test {
 protected:
  // As the kubelet does it.
  void container(const std::string& space, const std::string& pod, const std::string& uid, const std::string& name,
                 const std::string& id) const
  {
    const std::string log = space + "_" + pod + "_" + uid + "/" + name + "/0.log";
    root_.file(kPods + log);
    const std::string link = (pod + "_" + space + "_" + name + "-" + id).substr(0, 251) + ".log";
    root_.link(kLinks + link, "/var/log/pods/" + log);
  }
  PodNames names() const
  {
    return PodNames(root_.path(), [this] { return now_; });
  }

  test::TemporaryRoot root_;
  MonoTime now_ = mono_time(1'000'000'000'000);
};

TEST_F(PodNamesTest, AContainerHasTheNamesOfItsLog)
{
  container("shop", "cart-7d9.v2-x2x4z", kUid, "web-server", kId);
  container("shop", "cart-7d9.v2-x2x4z", kUid, "sidecar", kOtherId);
  container("kube-system", "etcd-node1", "5e9bb5c3aa1f36ee3f10b0ea1df2a29b", "etcd", kPauseId);
  PodNames names = this->names();
  EXPECT_EQ(names.find(kId, kUid), (PodContainer{"shop", "cart-7d9.v2-x2x4z", kUid, "web-server"}));
  EXPECT_EQ(names.find(kOtherId, kUid).container_name, "sidecar");
  EXPECT_EQ(names.find(kPauseId, "5e9bb5c3aa1f36ee3f10b0ea1df2a29b").pod_name, "etcd-node1");
  EXPECT_FALSE(names.is_blind());
}

TEST_F(PodNamesTest, WithoutTheUidTheLinkTellsIt)
{
  container("shop", "cart", kUid, "web", kId);
  EXPECT_EQ(names().find(kId, ""), (PodContainer{"shop", "cart", kUid, "web"}));
}

TEST_F(PodNamesTest, PauseContainersAreOfAPodAndHaveNoName)
{
  container("shop", "cart", kUid, "web", kId);
  EXPECT_EQ(names().find(kPauseId, kUid), (PodContainer{"shop", "cart", kUid, ""}));
  EXPECT_EQ(names().find("", kUid), (PodContainer{"shop", "cart", kUid, ""}));
  EXPECT_EQ(names().find(kPauseId, kOtherUid), (PodContainer{"", "", kOtherUid, ""}));
  EXPECT_EQ(names().find(kPauseId, ""), PodContainer{});
  EXPECT_EQ(names().find("", ""), PodContainer{});
}

TEST_F(PodNamesTest, NamesAsLongAsTheyMayBe)
{
  // 255 bytes with all of the id.
  const std::string pod(255 - 4 - 64 - 1 - 1 - 1 - 63 - 1, 'p');
  const std::string space(63, 'n');
  container(space, pod, kUid, "c", kId);
  EXPECT_EQ(names().find(kId, kUid), (PodContainer{space, pod, kUid, "c"}));
}

TEST_F(PodNamesTest, WhereTheIdIsCutOffThePodsUidAndTheRestOfItTell)
{
  const std::string pod(130, 'p');
  const std::string space(40, 'n');
  container(space, pod, kUid, "application-with-a-name", kId);  // 54 digits are left
  container(space, pod, kUid, "side", kOtherId);                // all
  PodNames names = this->names();
  EXPECT_EQ(names.find(kId, kUid), (PodContainer{space, pod, kUid, "application-with-a-name"}));
  EXPECT_EQ(names.find(kOtherId, kUid), (PodContainer{space, pod, kUid, "side"}));
  EXPECT_EQ(names.find(kPauseId, kUid), (PodContainer{space, pod, kUid, ""}));
  root_.remove("var/log/pods");
  EXPECT_EQ(this->names().find(kId, kUid), (PodContainer{space, pod, kUid, "application-with-a-name"}));
}

TEST_F(PodNamesTest, WithTooFewDigitsLeftTheContainerHasNoName)
{
  const std::string pod(200, 'p');
  container("n", pod, kUid, "container-" + std::string(34, 'c'), kId);               // 4
  container("n", std::string(210, 'q'), kOtherUid, std::string(60, 'c'), kOtherId);  // cut within the name
  PodNames names = this->names();
  EXPECT_EQ(names.find(kId, kUid), (PodContainer{"n", pod, kUid, ""}));
  EXPECT_EQ(names.find(kOtherId, kOtherUid), (PodContainer{"n", std::string(210, 'q'), kOtherUid, ""}));
}

TEST_F(PodNamesTest, LinksThatLeadNowhereTellAsMuch)
{
  container("shop", "cart", kUid, "web", kId);
  root_.remove(kPods + "shop_cart_" + kUid);
  EXPECT_EQ(names().find(kId, kUid), (PodContainer{"shop", "cart", kUid, "web"}));
}

TEST_F(PodNamesTest, LinksOfAnotherPodDoNotCount)
{
  container("shop", "cart", kUid, "web", kId);
  // Says that it is of cart, and leads to another pod; the cgroup says it is of a third.
  root_.link(kLinks + "cart_shop_web-" + kOtherId + ".log", "/var/log/pods/bank_vault_" + kOtherUid + "/safe/0.log");
  PodNames names = this->names();
  EXPECT_EQ(names.find(kOtherId, kOtherUid), (PodContainer{"", "", kOtherUid, ""}));
  EXPECT_EQ(names.find(kId, kOtherUid), (PodContainer{"", "", kOtherUid, ""}));
}

TEST_F(PodNamesTest, WhatIsSaidInTwoWaysIsNotKnown)
{
  container("shop", "cart", kUid, "web", kId);
  root_.link(kLinks + "mine_mine_mine-" + kId + ".log", "/dev/null");
  EXPECT_EQ(names().find(kId, kUid), (PodContainer{"shop", "cart", kUid, ""}));
  EXPECT_EQ(names().find(kId, ""), PodContainer{});
  root_.directory(kPods + "mine_mine_" + kUid);
  EXPECT_EQ(names().find(kId, kUid), (PodContainer{"", "", kUid, ""}));
}

TEST_F(PodNamesTest, WithoutLinksTheOnlyContainerOfThePodIsIt)
{
  root_.file(kPods + "shop_cart_" + kUid + "/web/0.log");
  root_.file(kPods + "shop_cart_" + kUid + "/not a container");
  root_.file(kPods + "shop_two_" + kOtherUid + "/web/0.log");
  root_.file(kPods + "shop_two_" + kOtherUid + "/setup/0.log");
  EXPECT_EQ(names().find(kId, kUid), (PodContainer{"shop", "cart", kUid, "web"}));
  EXPECT_EQ(names().find(kId, kOtherUid), (PodContainer{"shop", "two", kOtherUid, ""}));
}

TEST_F(PodNamesTest, WhatComesLaterIsFound)
{
  PodNames names = this->names();
  EXPECT_TRUE(names.is_blind());
  EXPECT_EQ(names.find(kId, kUid).pod_name, "");
  container("shop", "cart", kUid, "web", kId);
  EXPECT_EQ(names.find(kId, kUid).container_name, "web");
  container("shop", "next", kOtherUid, "web", kOtherId);
  EXPECT_EQ(names.find(kOtherId, kOtherUid).pod_name, "next");
  root_.remove("var/log");
  container("shop", "third", "5e9bb5c3aa1f36ee3f10b0ea1df2a29b", "web", kPauseId);
  EXPECT_EQ(names.find(kPauseId, "").pod_name, "third") << "the directory is another one";
}

TEST_F(PodNamesTest, AnUnchangedDirectoryIsNotReadAgain)
{
  container("shop", "cart", kUid, "web", kId);
  root_.rests(kLinks);
  PodNames names = this->names();
  EXPECT_EQ(names.find(kOtherId, "").container_name, "");
  root_.link(kLinks + "late_shop_web-" + kOtherId + ".log", "/nowhere");
  root_.rests(kLinks);  // as it was before, but for nanoseconds
  EXPECT_EQ(names.find(kOtherId, "").container_name, "web");

  struct stat status {};
  ASSERT_EQ(::stat((root_.path() + "/" + kLinks).c_str(), &status), 0);
  EXPECT_EQ(names.find(kPauseId, "").container_name, "");
  root_.link(kLinks + "later_shop_web-" + kPauseId + ".log", "/nowhere");
  const timespec times[] = {status.st_mtim, status.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, (root_.path() + "/" + kLinks).c_str(), times, 0), 0);
  EXPECT_EQ(names.find(kPauseId, "").container_name, "");
}

TEST_F(PodNamesTest, ALinkToTheDirectoryStaysBelowTheRoot)
{
  root_.file("data/pods/shop_cart_" + kUid + "/web/0.log");
  root_.link("var/log/pods", "/data/pods");
  EXPECT_EQ(names().find(kId, kUid).pod_name, "cart");
  root_.link("var/log/containers", "../../../../../../../../../../etc");
  EXPECT_EQ(names().find(kId, kUid).pod_name, "cart");
}

TEST_F(PodNamesTest, OtherNamesAreHarmless)
{
  container("shop", "cart", kUid, "web", kId);
  for (const std::string name : {"loop", "a\nb", "\x1b[31m", "\xff\xfe", ".log", "-.log", "__-.log"})
    root_.link(kLinks + name, name);
  for (const std::string& name :
       std::vector<std::string>{"_", "__", "a_b_c", "a_b_c_" + kUid, "_b_" + kUid, "A_b_" + kUid, "a\n_b_" + kUid,
                                "a_b\x1b_" + kUid, "a_b_" + kUid + "0"})
    root_.directory(kPods + name);
  const std::string end = "-" + kOtherId + ".log";
  for (const std::string& name : {"a_b" + end, "a_b_c_d" + end, "a__c" + end, "a.b_c.d_e" + end, "a\n_b_c" + end,
                                  "A_b_c" + end, "a_" + std::string(64, 'b') + "_c" + end, "a_b_c" + kOtherId + ".log"})
    root_.link(kLinks + name, "/");
  root_.link(kLinks + std::string(251, '-') + ".log", std::string(4000, 'x'));
  root_.link(kLinks + std::string(251, '/' - 1) + ".log", "/var/log/pods/../../" + kUid + "//0.log");
  PodNames names = this->names();
  EXPECT_EQ(names.find(kId, kUid), (PodContainer{"shop", "cart", kUid, "web"}));
  EXPECT_EQ(names.find(kOtherId, kOtherUid), (PodContainer{"", "", kOtherUid, ""}));

  root_.remove("var/log");
  root_.link("var/log/pods", "pods");
  root_.link("var/log/containers", "pods");
  EXPECT_EQ(this->names().find(kId, kUid), (PodContainer{"", "", kUid, ""}));
  root_.remove("var/log");
  root_.file("var/log/pods", "no directory");
  ASSERT_EQ(::mkfifo((root_.path() + "/var/log/containers").c_str(), 0600), 0);
  EXPECT_TRUE(this->names().is_blind());
}

TEST_F(PodNamesTest, OfAHundredThousandNamesAllAreFoundAndFewAreKept)
{
  // In memory, where there is some: a disk takes its time for so many.
  const test::TemporaryRoot crowd(std::filesystem::is_directory("/dev/shm") ? "/dev/shm"
                                                                            : std::filesystem::temp_directory_path());
  crowd.directory(kLinks);
  const Fd directory(::open((crowd.path() + "/" + kLinks).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const auto id = [](int number) { return "abcdef" + std::string(52, '0') + std::to_string(100'000 + number); };
  for (int i = 0; i < 100'000; ++i)
    ASSERT_EQ(::symlinkat("x", directory.get(), ("p" + std::to_string(i) + "_n_c-" + id(i) + ".log").c_str()), 0);
  crowd.rests(kLinks);
  PodNames names(crowd.path(), [this] { return now_; });
  int found_at_once = 0;
  for (int i = 0; i < 80'000; i += 19'973) {
    EXPECT_EQ(names.find(id(i), "").pod_name, "p" + std::to_string(i));
    found_at_once += names.find(id(i + 1), "").pod_name.empty() ? 0 : 1;
    now_ += std::chrono::seconds(11);
  }
  EXPECT_LT(found_at_once, 5) << "reads all for each";
}

}  // namespace
}  // namespace laggard::identify
