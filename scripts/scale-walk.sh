#!/usr/bin/env bash
# How long the walk and the plan of a large archive take, and how much memory rank 0 needs:
#   scripts/scale-walk.sh [STUDIES=100000] [RANKS=2] [COVPIPE=build/covpipe]
# The archive is made of sparse files, each with a header of 512 x 512 x 300 and no voxels: 4 KiB each on the disk of $TMPDIR, removed
# at the end. Prints the seconds of `--dry-run` (walk, headers of all studies, plan), and the largest process.
set -euo pipefail
studies=${1:-100000} ranks=${2:-2} covpipe=$(realpath "${3:-build/covpipe}")
work=$(mktemp -d "${TMPDIR:-/tmp}/covpipe-scale.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 - "$work/archive" "$studies" <<'PY'
import os, struct, sys
root, n = sys.argv[1], int(sys.argv[2])
h = bytearray(352)
struct.pack_into("<i", h, 0, 348)
struct.pack_into("<8h", h, 40, 3, 512, 512, 300, 1, 1, 1, 1)
struct.pack_into("<2h", h, 70, 4, 16)
struct.pack_into("<8f", h, 76, 1, .7, .7, 1, 0, 0, 0, 0)
struct.pack_into("<3f", h, 108, 352, 1, 0)
struct.pack_into("<2h", h, 252, 0, 1)
struct.pack_into("<12f", h, 280, .7, 0, 0, 0, 0, .7, 0, 0, 0, 0, 1, 0)
h[344:348] = b"n+1\0"
for k in range(n):
    d = f"{root}/site-{k % 40:02d}/patient{k:07d}"
    os.makedirs(d)
    with open(d + "/ct.nii", "wb") as f:
        f.write(h)
        f.truncate(352 + 2 * 512 * 512 * 300)
PY
run=("$covpipe" --archive "$work/archive" --out "$work/c.h5" --dry-run --model none)
[ "$ranks" -gt 1 ] && run=(mpirun --quiet -n "$ranks" --oversubscribe --allow-run-as-root "${run[@]}")
start=$(date +%s.%N)
"${run[@]}" >"$work/plan" 2>"$work/log" & pid=$!
most=0
while kill -0 $pid 2>/dev/null; do # VmHWM of every covpipe of ours: rank 0 is the largest
    for p in $(pgrep -f -- "--archive $work/archive"); do
        m=$(awk '/^VmHWM/ { print $2 }' "/proc/$p/status" 2>/dev/null || true)
        [ "$(cat "/proc/$p/comm" 2>/dev/null)" = covpipe ] && [ "${m:-0}" -gt $most ] && most=$m
    done
    sleep 0.2
done
wait $pid
times >"$work/times" # of the shell, then of all it waited for
printf '%s; walk and plan %.1f s on %d rank(s), largest process %d MiB; load %s; user and system time of all: %s\n' "$(tail -n 1 "$work/plan")" \
       "$(echo "$(date +%s.%N) - $start" | bc)" "$ranks" $((most / 1024)) "$(cut -d' ' -f1 /proc/loadavg)" "$(tail -n 1 "$work/times")"
