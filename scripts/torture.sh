#!/usr/bin/env bash
# Tortures covpipe on this machine for MINUTES (default 60) and prints one table: fault, how often tried and hit, how often survived with
# the same bytes, time to recover. A third of the time goes to failing calls (every call site, several errors), the rest to random
# kills and other disasters. Exit code 1 if anything was not survived; then its folder under SCRATCH is kept.
#   scripts/torture.sh [--minutes M] [--jobs N] [--seed S] [--kinds disasters] ...
#   scripts/torture.sh --kills 500      nothing but kill -9, until 500 runs were hit; takes no notice of the minutes
# Needs a build (COVPIPE_BUILD, default build/); the full disk needs root. Takes one core a job (default 1).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${COVPIPE_BUILD:-build}
scratch=${SCRATCH:-$(mktemp -d /tmp/covpipe-torture-XXXXXX)}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_MCA_rmaps_base_oversubscribe=1
/usr/bin/python3 tests/fault/torture.py --covpipe "$build/covpipe" --shim "$build/tests/libfault_shim.so" --scratch "$scratch/t" --deep --minutes 60 \
    --jobs 1 --deadline 180 "$@"
rm -rf "$scratch"
