#!/bin/bash
# Training from the command line, on phantoms: ranks agree with one rank, SIGTERM leaves a checkpoint and 75, the same command
# goes on and ends, what was trained can be evaluated, and wrong calls say what is wrong.
set -eu
rm -rf "$SCRATCH"; mkdir -p "$SCRATCH"; cd "$SCRATCH"
command -v h5dump > /dev/null || { echo "skipped: no h5dump"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

"$COVPIPE" phantom --out chests --studies 2 --seed 3 --size 64 --slices 12 --quiet >/dev/null
cases=chests/cases.csv
[ -f "$cases" ] || fail "the phantoms came without cases.csv"
common=(--cases "$cases" --threads 1 --precision fp32 --log-json)
train() { "$COVPIPE" train "$@" "${common[@]}"; }
# "1 1.4609 2 1.5062 ...": the loss of every step, from the weights' record (report lines are means over whatever time allowed).
curve() { h5dump -a /record/loss_curve "$1" | sed -n '/DATA {/,/}/p' | grep -o '[0-9]* [0-9]\.[0-9]*'; }

# One rank and three, the same global batch.
train lung-sagittal --steps 3 --batch 4 --out one.h5 2> one.log
mpirun --oversubscribe -n 3 "$COVPIPE" train lung-sagittal "${common[@]}" --steps 3 --batch 4 --out three.h5 2> three.log
curve one.h5 > one.txt; curve three.h5 > three.txt
[ "$(wc -l < one.txt)" = 3 ] || fail "no loss curve of three steps in the weights"
paste -d' ' one.txt three.txt | awk '{ d = $2 - $4; if (d > 1e-3 || d < -1e-3) exit 1 }' || fail "losses differ: $(paste one.txt three.txt)"

# Stopped and resumed.
"$COVPIPE" train lung-sagittal "${common[@]}" --steps 400 --out long.h5 2> long.log & pid=$! # a function would get the signal itself
for _ in $(seq 300); do grep -q '"step":' long.log && break; sleep 0.2; done
kill -TERM $pid; code=0; wait $pid || code=$?
[ $code = 75 ] || fail "exit code $code after SIGTERM, expected 75"
[ -f long.h5.checkpoint ] && [ ! -e long.h5 ] || fail "a stopped training leaves its checkpoint and no result"
code=0; train lung-sagittal --steps 401 --out long.h5 2> other.log || code=$?
[ $code = 2 ] && grep -q 'another training' other.log || fail "another training's checkpoint was taken (exit code $code)"
"$COVPIPE" train lung-sagittal "${common[@]}" --steps 400 --out long.h5 2> more.log & pid=$!
for _ in $(seq 300); do grep -q '"step":' more.log && break; sleep 0.2; done
kill -TERM $pid; wait $pid || true
first=$(grep -o '"step":[0-9]*' more.log | head -1 | cut -d: -f2); before=$(grep -o '"step":[0-9]*' long.log | tail -1 | cut -d: -f2)
[ "$first" -gt "$before" ] || fail "the resumed training started over (step $first after $before)"

# A finished file is trained further, but not past a patient that it has learnt from.
train lung-sagittal --steps 2 --start one.h5 --out further.h5 2> further.log
h5dump -a /record/training further.h5 | grep -q 'starts from lung-sagittal' || fail "the record does not say what further.h5 started from"
code=0; train lung-sagittal --steps 2 --start one.h5 --fold phantom001 --out fold.h5 2> refused.log || code=$?
[ $code = 2 ] && grep -q "has learnt from the patient 'phantom001'" refused.log && [ ! -e fold.h5 ] || fail "a fold went on from its own patient (exit code $code)"
code=0; train lung-axial --steps 2 --start one.h5 --out swapped.h5 2> swapped.log || code=$?
[ $code = 2 ] && grep -q 'starts from weights of its own' swapped.log || fail "the axial network started from the sagittal one (exit code $code)"

# What was trained can be evaluated; a model in the other's place is named.
train lung-axial --steps 2 --batch 1 --out axial.h5 2> axial.log
"$COVPIPE" eval lung --cases "$cases" --lung-axial axial.h5 --lung-sagittal one.h5 --threads 1 --json eval.json > eval.md
grep -q 'fused + CRF' eval.md && grep -q '"dice"' eval.json || fail "eval printed no table"
code=0; "$COVPIPE" eval lung --cases "$cases" --lung-axial one.h5 --lung-sagittal one.h5 2> wrong.log >/dev/null || code=$?
[ $code = 2 ] && grep -q "lung-axial" wrong.log || fail "sagittal weights passed for axial ones (exit code $code)"
code=0; train lung-axial --out x.h5 2> none.log || code=$?
[ $code = 2 ] && grep -q -- '--minutes' none.log || fail "a training without a length (exit code $code)"
echo "training from the command line: all checks passed"
