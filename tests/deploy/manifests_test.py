# SPDX-License-Identifier: MIT
"""The Kubernetes manifests are what the API server of today takes: checked offline against its own model.

The check is tested, too: a manifest with a misspelt field, a string where a number belongs, and the like, must fail.
"""
from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import stage

MANIFESTS = stage.SOURCE / "scripts/deploy/kubernetes"
WITH_METRICS = stage.SOURCE / "scripts/deploy/prometheus/kubernetes"
CHECKER = stage.SOURCE / "tests/deploy/check_manifests.mjs"
# The first for Kubernetes 1.36, whose models need no other package; the second reads YAML.
PACKAGES = {"client-node": "@kubernetes/client-node@2.0.1", "js-yaml": "js-yaml@5.5.0"}
MISTAKES = {
    "a misspelt field": ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "no field 'readOnlyRootFileSystem'"),
    "a field in the wrong place": ("      hostPID: true", "      runAsUser: 0", "no field 'runAsUser'"),
    "a string for a number": ("terminationGracePeriodSeconds: 10", "terminationGracePeriodSeconds: 10s", "an integer is wanted"),
    "a number for a string": ("mountPath: /var/log/pods", "mountPath: 1", "a string is wanted"),
    "a string for a truth value": ("hostPID: true", 'hostPID: "yes"', "a boolean is wanted"),
    "a map for a list": ("        - operator: Exists", "        operator: Exists", "a list is wanted"),
    "a missing field": ("mountPath: /run/laggard", "subPath: laggard", "the field 'mountPath' is missing"),
    "a field twice": ("hostNetwork: false", "hostPID: false", "duplicated mapping key"),
    "an unknown kind": ("kind: DaemonSet", "kind: DemonSet", "no kind 'DemonSet'"),
    "a kind of another group": ("apiVersion: apps/v1", "apiVersion: v1", "no kind 'DaemonSet' in 'v1'"),
}


def fetch(folder: Path, name: str, package: str) -> Path:
    """The package's files, without what it depends on, unpacked in the build folder; kept for the next time."""
    target = folder / package.replace("/", "_") / "package"
    if not target.exists():
        part = folder / f"{name}.part"
        part.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(["npm", "pack", "--silent", package], cwd=part, capture_output=True, text=True, timeout=120)
        if packed.returncode != 0:
            raise stage.Skip(f"npm cannot fetch {package}: {packed.stderr.strip() or packed.stdout.strip()}")
        with tarfile.open(part / packed.stdout.split()[-1]) as archive:
            archive.extractall(part)
        part.rename(target.parent)
    return target


def patched(manifest: stage.Json, operations: list[stage.Json]) -> stage.Json:
    """As kustomize would, as far as it is used: RFC 6902 with nothing but `add`."""
    for operation in operations:
        *folders, last = operation["path"].strip("/").split("/")
        place = manifest
        for folder in folders:
            place = place[int(folder) if isinstance(place, list) else folder]
        assert operation["op"] == "add", f"this test knows no {operation['op']}"
        if isinstance(place, list):
            assert last == "-"
            place.append(operation["value"])
        else:
            assert last not in place, f"{operation['path']} would replace what is there"
            place[last] = operation["value"]
    return manifest


def test(work: Path) -> None:
    stage.require("node", "npm")
    try:
        import yaml
    except ImportError:
        raise stage.Skip("python3-yaml is not installed") from None
    packages = [fetch(stage.BUILD / "npm", name, package) for name, package in PACKAGES.items()]

    def check(*files: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["node", CHECKER, *packages, *files], capture_output=True, text=True, timeout=stage.DEADLINE_SECONDS)

    count = 0
    for folder in (MANIFESTS, WITH_METRICS):
        rules = yaml.safe_load((folder / "kustomization.yaml").read_text())
        resources = [folder / name for name in rules["resources"]]
        assert all(resource.exists() for resource in resources), f"{folder} names what is not there: {resources}"
        files = [resource for resource in resources if resource.is_file()]
        named = {"kustomization.yaml", *(file.name for file in files), *(patch["path"] for patch in rules.get("patches", []))}
        there = {file.name for file in folder.glob("*.yaml")}
        assert named == there, f"{folder}: named are {sorted(named)}, there are {sorted(there)}"
        checked = check(*files)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        count += len(files)
    assert count >= 3, "there are no manifests"

    with_metrics = work / "metrics.yaml"
    with_metrics.write_text(yaml.safe_dump(patched(yaml.safe_load((MANIFESTS / "daemonset.yaml").read_text()),
                                                   yaml.safe_load((WITH_METRICS / "metrics.yaml").read_text()))))
    checked = check(with_metrics)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    original = (MANIFESTS / "daemonset.yaml").read_text()
    for what, (before, after, complaint) in MISTAKES.items():
        assert original.count(before) == 1, f"{what}: '{before}' is there {original.count(before)} times"
        spoilt = work / "spoilt.yaml"
        spoilt.write_text(original.replace(before, after))
        refused = check(spoilt)
        assert refused.returncode == 1 and complaint in refused.stdout, f"{what} is not refused: {refused.stdout}{refused.stderr}"
    print(f"{count} manifests are right; {len(MISTAKES)} kinds of mistakes are refused")


if __name__ == "__main__":
    stage.run(test)
