# Shared by scripts/run, scripts/test and scripts/bench; sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the package lists are for who sources this

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

BUILD_PACKAGES=(g++ cmake ninja-build pkg-config clang llvm bpftool libbpf-dev libcli11-dev libfmt-dev libexpected-dev
  nlohmann-json3-dev libtomlplusplus-dev libzstd-dev libcap-ng-dev libdw-dev libelf-dev nettle-dev prometheus-cpp-dev)
TEST_PACKAGES=(libgtest-dev libgmock-dev libclang-rt-14-dev iproute2 qemu-system-x86 cpio
  busybox-static shellcheck systemtap-sdt-dev scdoc)
# shellcheck disable=SC2034
DEPLOY_PACKAGES=(python3 python3-jsonschema python3-yaml jq mmdebstrap dpkg-dev lintian podman crun groff-base zsh fish
  util-linux)
# shellcheck disable=SC2034
KUBERNETES_PACKAGES=(python3 python3-jsonschema python3-yaml podman crun golang-go dpkg-dev xz-utils containerd runc etcd-server
  containernetworking-plugins iptables iproute2 util-linux openssl)
# shellcheck disable=SC2034
SCENARIO_PACKAGES=(nginx-light haproxy redis-server redis-tools postgresql curl wget iperf3 wrk socat nodejs python3 iproute2
  util-linux procps
  memcached php-fpm rsyslog prometheus prometheus-node-exporter dnsmasq-base chromium rsync gcc libc6-dev perl nftables
  openjdk-17-jdk-headless golang-go g++ make)
# shellcheck disable=SC2034
CASE_PACKAGES=(qt6-base-dev golang-go golang-github-lucas-clemente-quic-go-dev systemtap-sdt-dev python3 libssl-dev openssl
  nginx-light curl nghttp2-server libcurl4-openssl-dev pkg-config libpq-dev postgresql python3-psycopg2)
# shellcheck disable=SC2034
BENCH_PACKAGES=(python3 bpftool bpftrace iproute2 redis-server redis-tools nginx-light wrk iperf3)
BENCH_TARGETS=(bench_read_cost bench_idle_cost bench_attribution_cost bench_pair_cost)

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs what is missing and nothing else, so that the second run touches nothing.
install_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: install by hand: $*"; return 0; }
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "needs root to install: ${missing[*]}"
  say "installing: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || die "apt-get update failed"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get install failed for: ${missing[*]}"
}

# configure DIR [cmake options]: only where it has not been done with these options.
configure() {
  local dir=$1
  shift
  mkdir -p "$dir"
  cmake -S . -B "$dir" -G Ninja "$@" >"$dir/cmake.log" 2>&1 || { cat "$dir/cmake.log" >&2; die "cmake failed"; }
}

# ---- ctest, and once more what failed: a shared machine stands still for a moment now and then ----

MOST_SECOND_RUNS=3
launcher=()     # before ninja, which starts tests to list them, and ctest
second_runs=()  # tests that passed only then, of all run_ctest so far

# junit_tests FILE STATUS: the tests that ended so (run, fail, notrun, disabled), a line each; none where there is no FILE.
junit_tests() {
  [ ! -f "$1" ] || sed -n "s/^[[:space:]]*<testcase name=\"\([^\"]*\)\"[^>]* status=\"$2\".*/\1/p" "$1"
}

# run_ctest DIR [ctest options]: fails where a test failed twice, or none could be run. DIR/ctest.log is the output of both runs,
# DIR/ctest.xml and DIR/ctest-again.xml are their results. Not `--repeat until-pass:2`, whose results say only how each test ended.
run_ctest() {
  local dir=$1 failed passed name status=0
  shift
  rm -f "$dir/ctest.xml" "$dir/ctest-again.xml"
  "${launcher[@]}" ctest --test-dir "$dir" "$@" --output-on-failure --no-tests=error --output-junit ctest.xml >"$dir/ctest.log" 2>&1 && return
  failed=$(junit_tests "$dir/ctest.xml" fail)
  [ -n "$failed" ] || return 1
  "${launcher[@]}" ctest --test-dir "$dir" --rerun-failed --output-on-failure --no-tests=error --output-junit ctest-again.xml \
    >>"$dir/ctest.log" 2>&1 || status=$?
  passed=$(junit_tests "$dir/ctest-again.xml" run)
  while read -r name; do
    if grep -qxF -- "$name" <<<"$passed"; then second_runs+=("$name"); else status=1; fi
  done <<<"$failed"
  return "$status"
}

# run_whole DIR PROGRAM...: the test programs of DIR, each with all its tests in two processes: under sanitizers to start costs more
# than most tests. What fails is run once more, unless the program did not reach its end. DIR/PROGRAM.0.log and .1.log are the output.
run_whole() {
  local dir=$1 program shard log again status=0
  local -a pids
  shift
  for program in "$@"; do
    for shard in 0 1; do
      GTEST_BRIEF=1 GTEST_TOTAL_SHARDS=2 GTEST_SHARD_INDEX=$shard "$dir/$program" >"$dir/$program.$shard.log" 2>&1 &
      pids[shard]=$!
    done
    for shard in 0 1; do
      log=$dir/$program.$shard.log
      if ! wait "${pids[shard]}"; then
        again=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).* (.*/\1/p' "$log" | sort -u)
        if grep -q '^\[==========\].* ran\.' "$log" && [ -n "$again" ] && GTEST_BRIEF=1 GTEST_FILTER=${again//$'\n'/:} "$dir/$program" >>"$log" 2>&1; then
          mapfile -t -O ${#second_runs[@]} second_runs <<<"$again"
        else
          tail -80 "$log" >&2
          status=1
        fi
      fi
      say "$program, half $shard: $(grep -E '^\[  PASSED  \]' "$log" | tail -1)"
    done
  done
  return "$status"
}

# Prints the tests that needed a second run. Fails where they are too many: then it is not the machine.
judge_second_runs() {
  [ ${#second_runs[@]} -gt 0 ] || return 0
  say "passed only when run a second time: ${#second_runs[@]}"
  printf '  %s\n' "${second_runs[@]}" >&2
  [ ${#second_runs[@]} -gt "$MOST_SECOND_RUNS" ] || return 0
  say "these are more than $MOST_SECOND_RUNS: a failure"
  return 1
}
