# lib: what the shell tests share. A test gets the program's path in $COVPIPE and a scratch folder of its own in $SCRATCH.
set -uo pipefail
rm -rf "$SCRATCH" && mkdir -p "$SCRATCH" && cd "$SCRATCH"
tests=$COVPIPE_SOURCE/tests

fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; exit 77; }
# expect CODE COMMAND...: runs it, output to $SCRATCH/out, and compares the exit code.
expect() {
    local want=$1 got=0; shift
    "$@" >"$SCRATCH/out" 2>&1 || got=$?
    [ "$got" -eq "$want" ] || { cat "$SCRATCH/out" >&2; fail "exit code $got, expected $want: $*"; }
}
says() { grep -q -- "$1" "$SCRATCH/out" || { cat "$SCRATCH/out" >&2; fail "expected the words: $1"; }; }
# ranks N COMMAND...
ranks() { local n=$1; shift; mpirun -n "$n" --oversubscribe "$@"; }
# Debian's own python3 is the one that has h5py.
# same_cohort A B: every dataset but seconds_* and rank has the same bytes.
same_cohort() { /usr/bin/python3 "$tests/same_cohort.py" "$1" "$2" || fail "$1 and $2 differ"; }
