#!/usr/bin/env bash
# How much faster two ranks on two cores are than one on one core:
#   scripts/scale-ranks.sh [STUDIES=16] [COVPIPE=build/covpipe] [OPTIONS of the screening ...]
# Phantoms of 256 x 256 x 60 are screened by turns by one rank bound to a core and by two bound to a core each, one thread a rank:
# once to warm up, when it is looked up that all processes of a rank (shell, spawner, readers, worker) stay on its core, and three
# times by the clock. Prints studies an hour of the whole command, and the ratio of the medians; all cohorts must be the same.
# Wants a quiet machine.
set -euo pipefail
studies=${1:-16} covpipe=$(realpath "${2:-build/covpipe}") tests=$(realpath "$(dirname "$0")/../tests")
shift $(($# < 2 ? $# : 2))
work=$(mktemp -d "${TMPDIR:-/tmp}/covpipe-ranks.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" && work=$PWD
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
"$covpipe" phantom --out p --studies "$studies" --size 256 --slices 60 --quiet >log

# $1: name of the cohort. A line for every core that a process of a rank was allowed, until the run ends. The last answer of a process
# counts: while MPI starts, hwloc takes it to every core for a moment to look at it.
look() {
    local pid rank cores
    while [ ! -e "$1.ended" ]; do
        for pid in $(pgrep covpipe || true); do
            [ "$(readlink "/proc/$pid/cwd" || true)" = "$work" ] || continue
            rank=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p' || true)
            cores=$(sed -n 's/^Cpus_allowed_list:\s*//p' "/proc/$pid/status" 2>/dev/null || true)
            [ -z "$rank" ] || [ -z "$cores" ] || echo "$pid $rank on core $cores"
        done
        sleep 0.1
    done | awk '{ p = $1; $1 = ""; last[p] = $0 } END { for (p in last) n[last[p]]++; for (k in n) print "rank" k ": " n[k] " processes" }' | sort >"$1.cores"
}
run() { # $1: ranks, $2: round
    local out=c$1-$2 start watch=
    if [ "$2" = 0 ]; then look "$out" & watch=$!; fi
    start=$(date +%s.%N)
    mpirun --quiet -n "$1" --map-by core --bind-to core "$covpipe" --archive p/archive --out "$out.h5" --threads 1 --quiet "${@:3}" >"$out.log" 2>&1 || { touch "$out.ended"; cat "$out.log"; exit 1; }
    echo "$studies * 3600 / ($(date +%s.%N) - $start)" | bc >"$out.rate"
    touch "$out.ended"
    wait $watch
    /usr/bin/python3 "$tests/same_cohort.py" c1-0.h5 "$out.h5" >same || { cat same; exit 1; }
    [ "$2" != 0 ] || cat "$out.cores"
    [ "$2" != 0 ] || [ "$(sed -n 's/^rank . on core \([0-9]*\):.*/\1/p' "$out.cores" | sort -u | wc -l) $(wc -l <"$out.cores")" = "$1 $1" ] || { echo "expected a core for each rank"; exit 1; }
}
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
for round in 0 1 2 3; do
    run 1 "$round" "$@"
    run 2 "$round" "$@"
    printf 'round %d: %5d studies/h by 1 rank, %5d by 2%s\n' "$round" "$(cat "c1-$round.rate")" "$(cat "c2-$round.rate")" "$([ "$round" != 0 ] || echo ' (not counted)')"
done
one=$(sort -n c1-[123].rate | sed -n 2p) two=$(sort -n c2-[123].rate | sed -n 2p)
printf 'medians: %d and %d studies/h, ratio %.2f; all cohorts the same (%s); load %s\n' "$one" "$two" "$(echo "scale=3; $two / $one" | bc)" "$(cat same)" "$(cut -d' ' -f1 /proc/loadavg)"
