#!/bin/bash
# The lesion networks' training from the command line, on phantoms: the chain spatial -> temporal -> st end to end; killed in the middle and
# run again it ends with the very same weights; two ranks do what one does; what a stage starts from is checked and recorded.
set -eu
rm -rf "$SCRATCH"; mkdir -p "$SCRATCH"; cd "$SCRATCH"
command -v h5dump > /dev/null || { echo "skipped: no h5dump"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

"$COVPIPE" phantom --out chests --studies 3 --healthy 1 --seed 5 --size 64 --slices 16 --quiet >/dev/null
cases=chests/cases.csv
common=(--cases "$cases" --threads 1 --precision fp32 --log-json --size 64 --batch 2 --period-proxy)
train() { local model=$1; shift; "$COVPIPE" train "$model" "${common[@]}" "$@"; } # later options win
text() { h5dump -a "/record/$2" "$1" | sed -n '/DATA {/,/}/p'; }
# Parameters alone: the file also holds when it was written.
parameters() { h5dump -g /param "$1" | grep -v '^HDF5' | sha256sum; }

# The chain, undisturbed.
train all --models spatial,temporal,detector --steps 6 --out whole 2> whole.log || fail "train all: $(tail -2 whole.log)"
for m in spatial temporal st; do [ -f "whole/$m.h5" ] || fail "no $m.h5"; done
for loss in dice bce period objectness proposal class box mask; do grep -q "\"$loss\":" whole.log || fail "no loss line names $loss"; done
text whole/temporal.h5 training | grep -q 'starts from spatial [0-9a-f]' || fail "temporal does not say what it started from"
text whole/st.h5 training | grep -q 'starts from temporal [0-9a-f]' || fail "st does not say what it started from"
text whole/st.h5 training | grep -q 'no radiologist' || fail "the proxy of the periods is not in the record"
text whole/spatial.h5 training | grep -q 'input 64 x 64' || fail "not the size asked for"

# Killed as soon as each stage has begun, and gone on: SIGTERM with a checkpoint, then SIGKILL without one.
for signal in TERM KILL; do
    "$COVPIPE" train all --models spatial,temporal,st --steps 6 --out parts "${common[@]}" 2> parts.log & pid=$!
    for _ in $(seq 600); do [ -f parts/spatial.h5 ] && { [ $signal = TERM ] || grep -q 'st: stage' parts.log; } && break; kill -0 $pid 2>/dev/null || break; sleep 0.05; done
    kill -$signal $pid 2>/dev/null || true
    code=0; { wait $pid; } 2> /dev/null || code=$?
    [ $code != 0 ] || fail "ended before SIG$signal"
    [ $signal != TERM ] || [ $code = 75 ] || fail "exit code $code after SIGTERM"
done
[ ! -e parts/st.h5 ] || fail "a killed stage left a result"
train all --models spatial,temporal,st --steps 6 --out parts 2> more.log || fail "the killed chain did not go on: $(tail -2 more.log)"
for m in spatial temporal st; do [ "$(parameters whole/$m.h5)" = "$(parameters parts/$m.h5)" ] || fail "$m differs after being killed and resumed"; done

# Two ranks, one group of samples each, against one rank: BatchNorm and its statistics too.
train unet --steps 3 --batch 4 --out one.h5 2> one.log
mpirun --oversubscribe -n 2 "$COVPIPE" train unet "${common[@]}" --steps 3 --batch 4 --out two.h5 2> two.log
curve() { text "$1" loss_curve | grep -o '[0-9]* [0-9]\.[0-9]*'; }
curve one.h5 > one.txt; curve two.h5 > two.txt
[ "$(wc -l < one.txt)" = 3 ] || fail "no loss curve of three steps"
paste -d' ' one.txt two.txt | awk '{ d = $2 - $4; if (d > 2e-3 || d < -2e-3) exit 1 }' || fail "losses differ: $(paste one.txt two.txt)"

# What a stage cannot start from.
code=0; train temporal --steps 1 --out x.h5 2> none.log || code=$?
[ $code = 2 ] && grep -q 'starts from spatial' none.log || fail "temporal without a start file (exit code $code): $(tail -1 none.log)"
code=0; train temporal --steps 1 --start one.h5 --out x.h5 2> wrong.log || code=$?
[ $code = 2 ] && grep -q 'holds unet/compact' wrong.log || fail "temporal started from unet (exit code $code)"
code=0; train temporal --steps 1 --start whole/spatial.h5 --fold phantom001 --out x.h5 2> leak.log || code=$?
[ $code = 2 ] && grep -q "has learnt from the patient 'phantom001'" leak.log || fail "temporal left out whom its start file knows (exit code $code)"
code=0; train nothing --steps 1 --out x.h5 2> name.log || code=$?
[ $code = 2 ] && grep -q 'detector' name.log || fail "a model that there is not (exit code $code)"
code=0; train spatial --steps 1 --fold phantom001,phantom002,phantom003 --out x.h5 2> empty.log || code=$?
[ $code = 2 ] || fail "a training on nobody (exit code $code)"
echo "training of lesion networks from the command line: all checks passed"
