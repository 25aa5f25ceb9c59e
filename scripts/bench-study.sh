#!/usr/bin/env bash
# A 300-slice 512 x 512 study end to end: read, segment, CRF, measure, write, gather. Wall time and peak memory of a rank.
#   scripts/bench-study.sh [FOLDER] [PYTHON]   the phantom is made once and kept in FOLDER (default: ./bench-study)
# MORE: options for the run, as MORE='--model none' for lungs alone. PYTHON: an interpreter with the packages of bench_peers.py; then lungmask's network is timed between the runs: what it alone would take.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
covpipe=${COVPIPE:-$here/../build/covpipe} folder=${1:-bench-study} python=${2:-}
[ -e "$folder/cases.csv" ] || "$covpipe" phantom --out "$folder" --studies 1 --size 512 --slices 300 --seed 1 --quiet
cat "$folder"/archive/*/*/ct.nii* >/dev/null   # in the page cache
for _ in 1 2 3; do
    rm -rf "$folder"/c.h5*
    start=$(date +%s.%N)
    "$covpipe" --archive "$folder/archive" --out "$folder/c.h5" --quiet ${MORE:-} 2>/dev/null &
    job=$!
    peaks=$(mktemp)
    while sleep 1 && kill -0 $job 2>/dev/null; do   # VmHWM of every process of the job: the worker's is the rank's peak. Looking more often would slow it.
        for p in $(pgrep -P $job; for c in $(pgrep -P $job); do pgrep -P "$c"; done); do
            awk '/VmHWM/ { print $2 }' "/proc/$p/status" 2>/dev/null >>"$peaks" || true
        done
    done &
    watch=$!
    wait $job
    end=$(date +%s.%N)
    kill $watch 2>/dev/null || true
    echo "wall $(echo "$end - $start" | bc | cut -c1-6) s, largest process $(($(sort -n "$peaks" | tail -1) / 1024)) MiB"
    rm "$peaks"
    [ -z "$python" ] || MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=34359738368 "$python" "$here/bench_peers.py" lungmask/torch_fp32 | awk '{ printf "lungmask'"'"'s network, 300 slices by PyTorch in fp32: %.1f s\n", 300 * $6 }'
done
"$covpipe" inspect "$folder/c.h5" --study "$("$covpipe" inspect "$folder/c.h5" --csv | tail -1 | cut -d, -f1)" | grep -E 'seconds|lung_ml|slices'
