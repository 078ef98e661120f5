#!/usr/bin/env bash
# usage: fuzz/run.sh SECONDS [TARGET...]
#
# Builds the targets (all of them unless some are named), runs each for so many seconds and prints one
# line for each: executions, executions a second, coverage (edges and features), inputs kept, crashes.
# JOBS targets run at once (2 unless set). Exit status 1 when one of them crashed.
set -eu
cd "$(dirname "$0")"
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
seconds=$1
shift
# The sanitizers need switches that a stable compiler knows but hides.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cargo fuzz list | grep -vx seed)
jobs=${JOBS:-2}
mkdir -p logs

cargo fuzz build >logs/build.log 2>&1 || { cat logs/build.log; exit 2; }
[ -d corpus ] || ./seed.sh

# How long an input may be, where more than libFuzzer's guess is of use.
max_len() {
    case $1 in
        jsonl | response | onion_reply | request | state | signed_roster | signed_descriptor) echo 65536 ;;
        import_files | node_input | frame | substrate_query | onion_peel | tlog_proof | decision) echo 16384 ;;
        *) echo 8192 ;;
    esac
}

run() {
    mkdir -p "corpus/$1" "artifacts/$1"
    cargo fuzz run "$1" -- -max_total_time="$seconds" -max_len="$(max_len "$1")" \
        -rss_limit_mb=512 -malloc_limit_mb=64 -timeout=30 -print_final_stats=1 -verbosity=1 \
        >"logs/$1.log" 2>&1 || echo "exit status $?" >>"logs/$1.log"
}

# Starts targets as places fall free.
running=0
for target in "$@"; do
    run "$target" &
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then
        wait -n || true
        running=$((running - 1))
    fi
done
wait

failed=0
printf '%-18s %12s %8s %7s %8s %7s %8s\n' target executions exec/s edges features inputs crashes
for target in "$@"; do
    log=logs/$target.log
    last=$(grep -aE '^#[0-9]+' "$log" | tail -n 1)
    field() { printf '%s' "$last" | sed -nE "s/.*$1: ([0-9]+).*/\1/p"; }
    stat() { sed -nE "s/^stat::$1: +([0-9]+).*/\1/p" "$log" | tail -n 1; }
    crashes=0
    if grep -aqE '^exit status|SUMMARY: ' "$log"; then crashes=1; failed=1; fi
    printf '%-18s %12s %8s %7s %8s %7s %8s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(field cov)" "$(field ft)" \
        "$(printf '%s' "$last" | sed -nE 's/.*corp: ([0-9]+).*/\1/p')" "$crashes"
done
exit $failed
