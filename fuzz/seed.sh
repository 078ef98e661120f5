#!/usr/bin/env bash
# usage: fuzz/seed.sh [DIRECTORY]
#
# Writes a small corpus of real values, fuzz/corpus/TARGET unless a directory is given. Safe to run again.
set -eu
CORPUS=$(realpath -m "${1:-$(dirname "$0")/corpus}")
cd "$(dirname "$0")"
export CORPUS RUSTC_BOOTSTRAP=1
# Built like a target, it writes and ends before any fuzzing begins.
cargo fuzz run seed >/dev/null
