// SPDX-License-Identifier: MIT
#include "identify/cgroup_path.h"

#include <gtest/gtest.h>

namespace laggard::identify {
namespace {

const std::string kId = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
const std::string kNode = "3478f52e81a32b2b147fbd1958bcb7bbb9837b6808493da9f421fa822e3bd311";
const std::string kUid = "0f1e2d3c-1111-2222-3333-444455556666";
const std::string kSliceUid = "0f1e2d3c_1111_2222_3333_444455556666";
const std::string kStatic = "5e9bb5c3aa1f36ee3f10b0ea1df2a29b";

struct Form {
  std::string path;
  ContainerRef ref;
};

void expect(const Form& form)
{
  const ContainerRef ref = parse_cgroup_path(form.path);
  EXPECT_EQ(ref.container_id, form.ref.container_id) << form.path;
  EXPECT_EQ(ref.runtime, form.ref.runtime) << form.path;
  EXPECT_EQ(ref.pod_uid, form.ref.pod_uid) << form.path;
  EXPECT_EQ(ref.systemd_unit, form.ref.systemd_unit) << form.path;
}

TEST(CgroupPath, KubernetesWithTheCgroupfsDriver)
{
  for (const std::string quality : {"/burstable", "/besteffort", ""}) {
    expect({"/kubepods" + quality + "/pod" + kUid + "/" + kId, {kId, "", kUid, ""}});
    expect({"/kubepods" + quality + "/pod" + kUid + "/crio-" + kId, {kId, "cri-o", kUid, ""}});
    expect({"/some/root/kubepods" + quality + "/pod" + kStatic + "/" + kId, {kId, "", kStatic, ""}});
  }
}

TEST(CgroupPath, KubernetesWithTheSystemdDriver)
{
  const std::string best_effort =
      "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + kSliceUid + ".slice/";
  const std::string guaranteed = "/kubepods.slice/kubepods-pod" + kSliceUid + ".slice/";
  const std::string kind =
      "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" +
      kSliceUid + ".slice/";
  const std::string from_file = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + kStatic + ".slice/";
  for (const std::string& slice : {best_effort, guaranteed, kind}) {
    expect({slice + "cri-containerd-" + kId + ".scope", {kId, "containerd", kUid, ""}});
    expect({slice + "crio-" + kId + ".scope", {kId, "cri-o", kUid, ""}});
    expect({slice + "crio-" + kId + ".scope/container", {kId, "cri-o", kUid, ""}});
    expect({slice + "docker-" + kId + ".scope", {kId, "docker", kUid, ""}});
    expect({slice + "futurepod-" + kId + ".scope", {kId, "", kUid, ""}});
    expect({slice + "crio-conmon-" + kId + ".scope", {"", "", kUid, ""}});
  }
  expect({from_file + "cri-containerd-" + kId + ".scope", {kId, "containerd", kStatic, ""}});
}

TEST(CgroupPath, ContainerdWithSystemdNamesButTheCgroupfsDriver)
{
  expect({"/system.slice/containerd.service/kubepods-burstable-pod" + kSliceUid + ".slice:cri-containerd:" + kId,
          {kId, "containerd", kUid, ""}});
  expect({"/kubepods-pod" + kSliceUid + ".slice:cri-containerd:" + kId, {kId, "containerd", kUid, ""}});
}

TEST(CgroupPath, OfNestedContainersTheInnermostCounts)
{
  const std::string node = "/system.slice/docker-" + kNode + ".scope";
  expect({node + "/kubelet/kubepods/burstable/pod" + kStatic + "/" + kId, {kId, "", kStatic, ""}});
  expect({node + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + kSliceUid + ".slice/cri-containerd-" +
              kId + ".scope",
          {kId, "containerd", kUid, ""}});
  expect({node + "/system.slice/kubelet.service", {kNode, "docker", "", ""}});
  expect({node + "/init.scope", {kNode, "docker", "", ""}});
  // Docker in a pod: another container, and the pod is still the one around it.
  expect({"/kubepods/pod" + kUid + "/" + kNode + "/docker/" + kId, {kId, "docker", kUid, ""}});
  // Not in a container of the pod, and the node's is not one of them.
  expect(
      {node + "/kubepods.slice/kubepods-pod" + kSliceUid + ".slice/crio-conmon-" + kId + ".scope", {"", "", kUid, ""}});
}

TEST(CgroupPath, DockerAndPodman)
{
  expect({"/docker/" + kId, {kId, "docker", "", ""}});
  expect({"/system.slice/docker-" + kId + ".scope", {kId, "docker", "", ""}});
  expect(
      {"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + kId + ".scope", {kId, "docker", "", ""}});
  expect({"/actions_job/" + kId, {kId, "", "", ""}});
  expect({"/system.slice/nerdctl-" + kId + ".scope", {kId, "containerd", "", ""}});
  // Seen with podman 4.3 and crun.
  expect({"/libpod_parent/libpod-" + kId, {kId, "podman", "", ""}});
  expect({"/libpod_parent/conmon", {}});
  expect({"/kubepods/besteffort/pod" + kUid + "/libpod-" + kId, {kId, "podman", kUid, ""}});
  expect({"/kubepods/besteffort/pod" + kUid + "/conmon", {"", "", kUid, ""}});
  expect({"/libpod_parent/" + kNode + "/libpod-" + kId, {kId, "podman", "", ""}});
  expect({"/libpod_parent/" + kNode, {}});
  expect({"/machine.slice/libpod-" + kId + ".scope/container", {kId, "podman", "", ""}});
  expect({"/machine.slice/machine-libpod_pod_" + kNode + ".slice/libpod-" + kId + ".scope", {kId, "podman", "", ""}});
  expect({"/machine.slice/libpod-conmon-" + kId + ".scope", {"", "", "", "libpod-conmon-" + kId + ".scope"}});
  expect({"/system.slice/web.service/libpod-payload-" + kId, {kId, "podman", "", ""}});
  expect({"/system.slice/" + kId + ".service", {"", "", "", kId + ".service"}});
}

TEST(CgroupPath, UnitsAreThoseOfTheSystem)
{
  expect({"/system.slice/foo.service", {"", "", "", "foo.service"}});
  expect({"/system.slice/foo.service/worker-3", {"", "", "", "foo.service"}});
  expect({"/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service",
          {"", "", "", "serial-getty@ttyS0.service"}});
  expect({"/system.slice/srv-my\\x2ddata.mount", {"", "", "", "srv-my\\x2ddata.mount"}});
  expect({"/system.slice/_memory.service", {"", "", "", "memory.service"}});
  expect(
      {"/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope", {"", "", "", "user@1000.service"}});
  expect({"/user.slice/user-1000.slice/session-3.scope", {"", "", "", "session-3.scope"}});
  expect({"/init.scope", {"", "", "", "init.scope"}});
  expect({"/system.slice", {}});
  expect({"/process_api/06badbc1adbc3945b2bfebc16734338b", {}});
  expect({"/foo/bar.service", {}});  // made by somebody else: systemd's are in slices
}

TEST(CgroupPath, EscapedDashesAreDashes)
{
  std::string escaped = "/kubepods\\x2dbesteffort\\x2dpod0f1e2d3c\\x2d1111\\x2d2222\\x2d3333\\x2d444455556666.slice";
  expect({escaped + "/cri\\x2dcontainerd\\x2d" + kId + ".scope", {kId, "containerd", kUid, ""}});
}

TEST(CgroupPath, OutsideOfOurNamespacePathsLeadUp)
{
  expect({"/../../pod" + kUid + "/" + kId, {kId, "", kUid, ""}});
  expect({"/../cri-containerd-" + kId + ".scope", {kId, "containerd", "", ""}});
  expect({"/../../../../system.slice/foo.service", {"", "", "", "foo.service"}});
  expect({"/..", {}});
}

TEST(CgroupPath, WhatOnlyLooksLikeAnIdIsNone)
{
  expect({"", {}});
  expect({"/", {}});
  expect({"////", {}});
  expect({"/docker/" + kId.substr(1), {}});
  expect({"/docker/" + kId + "0", {}});
  expect({"/docker/" + std::string(64, 'g'), {}});
  expect({"/docker/" + std::string(64, 'A'), {}});
  expect({"/docker/x" + kId, {}});
  expect({"/docker/_" + kId, {}});
  expect({"/kubepods/pod" + kUid + "0/x", {}});
  expect({"/kubepods/podx" + kUid.substr(1), {}});
  expect({"/kubepods/xpod" + kUid, {}});
  expect({"/kubepods/pod0f1e2d3c.1111-2222-3333-444455556666", {}});
  expect({"/pod", {}});
  expect({"/system.slice/\\x2", {}});
  expect({"/system.slice/.service", {}});
  expect({"/system.slice/a\nb.service", {}});
  expect({"/system.slice/a b.service", {}});
  expect({"/system.slice/" + std::string(300, 'a') + ".service", {}});
}

TEST(ProcessCgroups, V2HasOneLine)
{
  const ProcessCgroups plain = parse_process_cgroups("0::/system.slice/foo.service\n");
  EXPECT_EQ(plain.ref.systemd_unit, "foo.service");
  EXPECT_EQ(plain.v2_path, "/system.slice/foo.service");
  EXPECT_FALSE(plain.is_relative);

  const ProcessCgroups relative = parse_process_cgroups("0::/../../pod" + kUid + "/" + kId + "\n");
  EXPECT_EQ(relative.ref.container_id, kId);
  EXPECT_EQ(relative.ref.pod_uid, kUid);
  EXPECT_TRUE(relative.is_relative);

  EXPECT_EQ(parse_process_cgroups("0::/docker/" + kId + " (deleted)\n").ref.container_id, kId);
  EXPECT_TRUE(parse_process_cgroups("0::/\n").ref.empty());
}

// podman 4.3, crun, cgroupfs, cgroup v1.
TEST(ProcessCgroups, OfV1TheLineThatSaysMostCounts)
{
  const std::string pod = "/kubepods/besteffort/pod" + kUid;
  const ProcessCgroups container =
      parse_process_cgroups("9:name=systemd:" + pod + "/libpod-" + kId + "\n8:pids:" + pod + "/libpod-" + kId +
                            "\n4:memory:" + pod + "/libpod-" + kId + "\n2:cpu,cpuacct:/\n0::/\n");
  EXPECT_EQ(container.ref, (ContainerRef{kId, "podman", kUid, ""}));
  EXPECT_EQ(container.v2_path, "/");
  const ProcessCgroups conmon =
      parse_process_cgroups("9:name=systemd:/\n8:pids:" + pod + "/conmon\n4:memory:" + pod + "/conmon\n");
  EXPECT_EQ(conmon.ref, (ContainerRef{"", "", kUid, ""}));
  EXPECT_EQ(conmon.v2_path, "");
  // Not every runtime uses every hierarchy.
  EXPECT_EQ(parse_process_cgroups("3:misc:/docker/" + kNode + "\n2:pids:/docker/" + kNode + "/docker/" + kId + "\n")
                .ref.container_id,
            kId);
  EXPECT_EQ(parse_process_cgroups("3:misc:/docker/" + kNode + "\n2:pids:/docker/" + kId + "\n").ref.container_id, kId);
  EXPECT_EQ(parse_process_cgroups("3:pids:/docker/" + kNode + "\n2:name=systemd:/docker/" + kNode +
                                  "/kubelet/kubepods/pod" + kUid + "/" + kId + "\n")
                .ref,
            (ContainerRef{kId, "", kUid, ""}));
}

TEST(ProcessCgroups, OfHybridHostsContainersAreInV1AndUnitsInBoth)
{
  const ProcessCgroups pod = parse_process_cgroups("11:pids:/kubepods/burstable/pod" + kUid + "/" + kId +
                                                   "\n1:name=systemd:/kubepods/burstable/pod" + kUid + "/" + kId +
                                                   "\n0::/system.slice/containerd.service\n");
  EXPECT_EQ(pod.ref, (ContainerRef{kId, "", kUid, ""}));
  EXPECT_EQ(pod.v2_path, "/system.slice/containerd.service");
  EXPECT_EQ(parse_process_cgroups("4:memory:/\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n")
                .ref.systemd_unit,
            "a.service");
}

TEST(ProcessCgroups, OtherTextSaysNothing)
{
  for (const std::string text : {"", "\n\n", "0", "0:", "0::", "0:::", "::/", "x", "0::relative/docker", "9:pids\n"})
    EXPECT_TRUE(parse_process_cgroups(text).ref.empty()) << text;
  EXPECT_EQ(parse_process_cgroups("garbage\n0::/a:b/docker/" + kId).ref.container_id, kId);
}

}  // namespace
}  // namespace laggard::identify
