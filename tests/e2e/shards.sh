# Claims: the shards of an archive, two at a time, screen each study once and leave no cohort; a run of the whole archive is refused
# while a shard runs, and then gathers them without computing anything, into the bytes of a run without shards; another number of
# shards computes nothing again; a study added later is all that its shard computes.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 6 --odd --seed 4 --size 64 --slices 8
screen=("$COVPIPE" --archive p/archive --model none --axial-only --no-crf --threads 1)
expect 3 "${screen[@]}" --out all.h5
for k in 1 2 3; do "${screen[@]}" --out s.h5 --shard $k/3 >"log$k" 2>&1 & pids[k]=$!; done
for _ in $(seq 100); do [ -e s.h5.parts/lock ] && break; sleep 0.05; done
expect 2 "${screen[@]}" --out s.h5
says "in use by another run (shard"
for k in 1 2 3; do wait "${pids[k]}"; code=$?; [ $code -eq 0 ] || [ $code -eq 3 ] || { cat "log$k"; fail "shard $k: exit code $code"; }; done
[ ! -e s.h5 ] && [ ! -e s-failures.csv ] || fail "a shard wrote what only all of them can"
sum=$(sed -n 's/.*shard . of 3: \([0-9]*\) of them.*/\1/p' log? | paste -sd+ | bc)
[ "$sum" = 11 ] && [ "$(find s.h5.parts -name '*.h5' | wc -l)" = 11 ] || fail "$sum studies in three shards, $(find s.h5.parts -name '*.h5' | wc -l) parts; expected 11"
expect 0 "$COVPIPE" status s.h5
[ "$(grep -c 'shard .-of-3: finished, .* 0 running' out)" = 3 ] || { cat out; fail "status does not show the shards"; }
expect 3 "${screen[@]}" --out s.h5
says "11 of them by an earlier run"
same_cohort all.h5 s.h5
cp p/archive/site-a/phantom001/ct.nii.gz p/archive/later.nii.gz
computed=0
for k in 1 2; do
    "${screen[@]}" --out s.h5 --shard $k/2 >"log$k" 2>&1
    eval "$(sed -n 's/.*: \([0-9]*\) studies: .*(\([0-9]*\) of them by.*/computed=$((computed + \1 - \2))/p; s/.*: \([0-9]*\) studies: [^(]*$/computed=$((computed + \1))/p' "log$k")"
done
[ "$computed" = 1 ] || { cat log1 log2; fail "$computed studies were computed, one is new"; }
for bad in 0/3 4/3 1 a/b 1/3x; do expect 2 "${screen[@]}" --out s.h5 --shard $bad; says "expected I/N"; done
