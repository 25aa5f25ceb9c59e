#!/usr/bin/env bash
# What gathering many parts into a cohort file costs, in time and memory, and that the cost grows linearly:
#   scripts/scale-gather.sh [PARTS=20000] [RANKS=4] [COVPIPE=build/covpipe]
# One phantom of 128 x 128 x 64 is screened; tests/tools/make_parts.c then gives every file of an archive of sparse files a part like
# that one's, with lesions. The command that is measured finds all of them done, and gathers. Prints one line for a quarter, a
# half and all of PARTS. Needs about 130 KiB a part below $TMPDIR, removed at the end.
set -euo pipefail
parts=${1:-20000} ranks=${2:-4} covpipe=$(realpath "${3:-build/covpipe}")
make_parts=$(dirname "$covpipe")/tests/make_parts
work=$(mktemp -d "${TMPDIR:-/tmp}/covpipe-gather.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
"$covpipe" phantom --out seed --studies 1 --size 128 --slices 64 --quiet >log
"$covpipe" --archive seed/archive --out seed.h5 --model none --quiet 2>>log || { cat log; exit 1; }

grow() { # until the archive has $1 studies
    python3 - "$1" <<'PY'
import os, sys
for site in range(40):
    os.makedirs(f"archive/site-{site:02d}", exist_ok=True)
for k in range(int(sys.argv[1])):
    with open(f"archive/site-{k % 40:02d}/patient{k:07d}.nii", "ab") as f:
        if f.tell() == 0:
            f.truncate(352 + 2 * 128 * 128 * 64)
PY
}
measure() { # $1: studies. wait4 knows the time of all processes and the size of the largest
    python3 - "$1" mpirun --quiet -n "$ranks" "$covpipe" --archive archive --out c.h5 --model none <<'PY'
import os, re, resource, subprocess, sys, time
n = int(sys.argv[1])
start = time.time()
run = subprocess.run(sys.argv[2:], stderr=subprocess.PIPE, text=True)
took, used = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
told = re.search(r"c\.h5: (\d+) studies, ([\d.]+) MiB, gathered in ([\d.]+) s", run.stderr)
if run.returncode or not told or int(told[1]) != n or f"{n} studies: {n} done, 0 skipped, 0 failed ({n} of them by an earlier run)" not in run.stderr:
    sys.exit(f"exit code {run.returncode}, not {n} studies kept and gathered:\n{run.stderr}")
cpu, gather = used.ru_utime + used.ru_stime, float(told[3])
print(f"{n:8d} {took:10.1f} {gather:10.1f} {1e6 * gather / n:10.0f} {cpu:10.1f} {1e6 * cpu / n:10.0f} {used.ru_maxrss / 1024:10.0f} {float(told[2]):10.1f}", flush=True)
PY
}
printf '%d ranks; load %s\n%8s %10s %10s %10s %10s %10s %10s %10s\n' "$ranks" "$(cut -d' ' -f1 /proc/loadavg)" parts "run s" "gather s" "us a part" "CPU s" "us a part" "most MiB" "file MiB"
for n in $((parts / 4)) $((parts / 2)) "$parts"; do
    grow "$n"
    "$make_parts" archive seed.h5.parts/*/*.h5 c.h5.parts >>log || { cat log; exit 1; }
    measure "$n"
    "$covpipe" inspect c.h5 --csv | python3 -c 'import csv, sys; n = sum(r["status"] == "done" and int(r["lesion_count"]) > 0 for r in csv.DictReader(sys.stdin)); sys.exit(n != int(sys.argv[1]) and f"inspect finds {n} studies done")' "$n"
done
