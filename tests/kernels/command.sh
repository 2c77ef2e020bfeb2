# Runs inside the emulated machine, as root, with nothing but busybox: the hook plan against its golden file, then the
# live tests. /plan says `refused: SENTENCE` for a kernel that must not be observed.
echo "kernel $(uname -r)"
export LAGGARD_SCHEMA=/schema.json GTEST_COLOR=no GTEST_BRIEF=1 LAGGARD_BIN=/bin/laggard WORKLOAD_BIN=/bin/workload LAGGARD_LIVE_QUICK=1
failed=0

# run_tests FILTER: what fails is run once more, by name, unless the program did not reach its end. An emulated CPU on a shared
# machine stands still for seconds now and then, and whole runs take minutes.
run_tests() {
  test_live --gtest_filter="$1" >/tmp/first && { cat /tmp/first; return; }
  cat /tmp/first
  again=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).* (.*/\1/p' /tmp/first | sort -u)
  grep -q '^\[==========\].* ran\.' /tmp/first && [ -n "$again" ] || return 1
  echo "second attempt:" $again
  test_live --gtest_filter="$(echo $again | sed 's/ /:/g')"
}

laggard doctor --output json >/tmp/doctor
doctor=$?
sed 's/.*"hooks":{\([^}]*\)}.*/\1/' /tmp/doctor | sed 's/,/\n/g; s/"//g; s/:/ /g' >/tmp/plan
if grep -q '^refused:' /plan; then
  laggard watch --duration 1s >/tmp/out 2>/tmp/err
  status=$?
  cat /tmp/err
  sentence=$(sed 's/^refused: //' /plan)
  [ $status = 3 ] && [ $doctor = 3 ] || { echo "FAILED: exit codes $status and $doctor, wanted 3"; failed=1; }
  grep -qF "$sentence" /tmp/err || { echo "FAILED: the refusal does not say '$sentence'"; failed=1; }
  [ ! -s /tmp/out ] || { echo "FAILED: a refusal prints nothing on stdout"; failed=1; }
  exit $failed
fi

cat /tmp/plan
if [ "$(cat /tmp/plan)" != "$(cat /plan)" ]; then
  echo "FAILED: the hook plan is not the golden one:"
  cat /plan
  cat /tmp/doctor
  failed=1
fi

# What depends on no kernel has run outside; loading takes 5 s here, each time.
if [ -n "$all" ]; then
  run_tests '-Ends.*:Recordings.*:Explain.output*:Explain.a_community*:Explain.an_unknown*:Faults.*' || failed=1
else
  run_tests 'Family/Exact.*:Rung/Sweep.*:Slices.*:Traps.*:Findings.guilty*:Findings.innocent*:Attribution.what*:Pairs.*:-*watch*' || failed=1
fi
# Every rung that this kernel has and that the plan did not take, forced.
rungs=$(sed 's/.*"rungs":{\([^}]*\)}.*/\1/; s/,/\n/g' /tmp/doctor | sed -n 's/^"\(.*\)":"ok"$/\1/p')
for hook in $rungs; do
  ! grep -qx "[a-z]* $hook" /tmp/plan || continue
  case $hook in
    tp_btf/rss_stat*)
      echo "forced: growth=$hook"
      (export LAGGARD_GROWTH_HOOK=$hook; run_tests 'Attribution.*') || failed=1 ;;
    iter/task_file+iter/tcp)  # Sweep.* force it themselves
      echo "forced: sweep=$hook"
      (export LAGGARD_SWEEP_HOOK=$hook; run_tests 'Traps.*:Mptcp.*') || failed=1 ;;
    *recv*)
      echo "forced: reads=$hook"
      (export LAGGARD_READS_HOOK=$hook; run_tests 'Family/Exact.*') || failed=1 ;;
  esac
done
if grep -qx 'pairs uprobe_multi' /tmp/plan; then
  echo "forced: pairs=uprobe"
  (export LAGGARD_PAIRS_HOOK=uprobe; run_tests 'Pairs.*:-*watch*') || failed=1
fi
exit $failed
