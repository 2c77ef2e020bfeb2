# SPDX-License-Identifier: MIT
"""A real Kubernetes of one node: etcd, API server, controllers, scheduler, kubelet, containerd, runc.

It lives in network and mount namespaces of its own (enter() makes them) and in a folder of its own. The pid namespace is the
machine's, because laggard wants that one; so whatever runs here stays a descendant of this process, and ends with it.
"""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import stage
from containers import adopt_orphans, bury_dead, cgroups, remove_cgroups, run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODE, ADDRESS, PAUSE_IMAGE = "node1", "10.99.0.1", "localhost/pause:1"
# What would be changed on the machine is hidden below something that is gone with the mount namespace.
EMPTY_FOLDERS = ("/run", "/var/log")
CHANGED_FOLDER = "/var/lib"  # kubelet/ and cni/ are wired in

NETWORK = """{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}"""

# restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may be made safer than we are.
CONTAINERD = """version = 2
root = "{work}/containerd"
state = "/run/containerd"
[plugins."io.containerd.internal.v1.opt"]
path = "{work}/opt"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{work}/cni"
"""

KUBELET = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
cgroupsPerQOS: true
failSwapOn: false
makeIPTablesUtilChains: false
evictionHard: {{memory.available: 10Mi}}
enforceNodeAllocatable: []
volumePluginDir: {work}/volume-plugins
"""

KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://{address}:6443", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


def enter() -> None:
    """Starts this program again in namespaces of its own, and prepares those."""
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, *sys.argv, "--inside"])
    adopt_orphans()
    run(["mount", "--make-rshared", "/"])  # the kubelet's mounts must reach its containers
    if Path("/sys/fs/cgroup/unified").is_mount():
        run(["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup/unified"])  # hybrid: runc and the kubelet shall see one of v1
    for folder in EMPTY_FOLDERS:
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder])
    changes, work = Path("/run/changes"), Path("/run/work")
    changes.mkdir()
    work.mkdir()
    run(["mount", "-t", "overlay", "-o", f"lowerdir={CHANGED_FOLDER},upperdir={changes},workdir={work}", "overlay", CHANGED_FOLDER])
    # The node's interface: a kubelet wants an address and a default route, and nobody is behind it.
    for words in ("link set lo up", "link add node0 type bridge", f"addr add {ADDRESS}/24 dev node0", "link set node0 up",
                  "link add port0 type veth peer name port1", "link set port0 master node0", "link set port0 up",
                  "link set port1 up", f"route add default via {ADDRESS}"):
        run(["ip", *words.split()])


def descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            text = stat.read_bytes().rpartition(b")")[2]  # a name is any bytes
            children.setdefault(int(text.split()[1]), []).append(int(stat.parent.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def end_all() -> bool:
    """All descendants are gone. What is orphaned becomes a child of this process, and so cannot get away."""
    for pid in descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bury_dead()


class Cluster:
    def __init__(self, programs: Path, work: Path) -> None:
        self.programs = programs
        self.work = work
        self.environment = {"PATH": f"{programs}:{PATH}", "HOME": str(work), "KUBECONFIG": str(work / "kubeconfig")}
        # kubepods/ is put below it in each hierarchy. It must be there before the kubelet is.
        self.cgroup = f"/laggard-test-{os.getpid()}"

    def __enter__(self) -> Cluster:
        try:
            self.start_control_plane()
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stage.eventually(end_all, "the cluster's processes have ended")
        remove_cgroups(self.cgroup)

    def start(self, program: str, *options: str) -> None:
        with (self.work / f"{program}.log").open("w") as log:
            subprocess.Popen([program, *options], cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                             stderr=log)

    def try_kubectl(self, *words: str) -> str:
        """Empty: it failed."""
        done = subprocess.run(["kubectl", *words], env=self.environment, capture_output=True, text=True,
                              timeout=stage.DEADLINE_SECONDS)
        return done.stdout.strip() if done.returncode == 0 else ""

    def kubectl(self, *words: str | Path) -> str:
        return run(["kubectl", *words], env=self.environment)

    def log_end(self, program: str) -> str:
        return "\n".join((self.work / f"{program}.log").read_text().splitlines()[-10:])

    def write(self, name: str, text: str) -> Path:
        file = self.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def start_control_plane(self) -> None:
        token = os.urandom(16).hex()
        self.write("kubeconfig", KUBECONFIG.format(address=ADDRESS, token=token))
        self.write("tokens.csv", f'{token},admin,admin,"system:masters"\n')
        run(["openssl", "genrsa", "-out", self.work / "accounts.key", "2048"])
        run(["openssl", "rsa", "-in", self.work / "accounts.key", "-pubout", "-out", self.work / "accounts.pub"])
        etcd = "http://127.0.0.1:2379"
        self.start("etcd", f"--data-dir={self.work / 'etcd'}", f"--listen-client-urls={etcd}",
                   f"--advertise-client-urls={etcd}", "--listen-peer-urls=http://127.0.0.1:2380")
        self.start("kube-apiserver", f"--etcd-servers={etcd}", "--service-cluster-ip-range=10.96.0.0/16",
                   "--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--allow-privileged=true",
                   "--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=accounts.key",
                   "--service-account-key-file=accounts.pub", f"--cert-dir={self.work / 'certificates'}",
                   f"--bind-address={ADDRESS}", f"--advertise-address={ADDRESS}", "--kubelet-preferred-address-types=InternalIP")
        stage.eventually(lambda: self.try_kubectl("get", "--raw", "/readyz"), "the API server is ready", 180)
        kubeconfig = f"--kubeconfig={self.work / 'kubeconfig'}"
        self.start("kube-controller-manager", kubeconfig, "--service-account-private-key-file=accounts.key",
                   "--controllers=*,-nodeipam,-attachdetach")
        self.start("kube-scheduler", kubeconfig)

    def start_node(self) -> None:
        for top in cgroups(self.cgroup):
            top.mkdir()
        self.write("cni/10-pods.conflist", NETWORK)
        containerd = self.write("containerd.toml", CONTAINERD.format(work=self.work, pause=PAUSE_IMAGE))
        self.start("containerd", f"--config={containerd}")
        stage.eventually(lambda: Path("/run/containerd/containerd.sock").exists(), "containerd listens")
        self.start("kubelet", f"--config={self.write('kubelet.yaml', KUBELET.format(work=self.work, cgroup=self.cgroup))}",
                   f"--kubeconfig={self.work / 'kubeconfig'}", "--container-runtime=remote",
                   "--container-runtime-endpoint=unix:///run/containerd/containerd.sock", f"--hostname-override={NODE}",
                   f"--node-ip={ADDRESS}", "--root-dir=/var/lib/kubelet")
        stage.eventually(lambda: "True" in self.try_kubectl("get", "node", NODE, "-o",
                                                            "jsonpath={.status.conditions[?(@.type=='Ready')].status}"),
                         "the node is Ready", 180)

    def ctr(self, *words: str | Path) -> str:
        return run(["ctr", "--namespace", "k8s.io", *words], env=self.environment)

    def import_image(self, podman: Sequence[str], tag: str) -> None:
        archive = self.work / "image.tar"
        run([*podman, "save", "--format", "docker-archive", "--output", archive, tag])
        self.ctr("images", "import", archive)
        archive.unlink()
