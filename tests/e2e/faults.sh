# Claims: a worker killed in the middle costs nothing; a job killed at any moment, then the same command again, ends in the same
# tables and masks as an undisturbed run; a signal drains and leaves with 75; a second run on the same output is refused. The same of a
# study with lesions that was being shared, whose pieces do not outlive the next run.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 6 --seed 9 --size 96 --slices 12
expect 0 "$COVPIPE" --archive p/archive --model none --out undisturbed.h5 --threads 1
# The worker is the child that has used the most processor time.
busiest() { ps -o pid=,time=,pcpu= -s "$1" --sort=-pcpu | awk 'NR == 1 { print $1 }'; }

setsid "$COVPIPE" --archive p/archive --model none --out w.h5 --threads 1 --log-json >w.out 2>&1 &
job=$!
for k in $(seq 200); do grep -q '"phase":"screening"' w.out && [ "$(find w.h5.parts -name '*.h5' | wc -l)" -ge 1 ] && break; sleep 0.05; done
victim=$(busiest "$job")
[ "$victim" != "$job" ] && kill -9 "$victim"
wait "$job"; code=$?
[ $code -eq 0 ] || { cat w.out; fail "a killed worker: exit code $code"; }
same_cohort undisturbed.h5 w.h5

# A user's lone runs on one node start and end as they like: none needs MPI's session folder, which they would share.
expect 0 env TMPDIR=/dev/null/none "$COVPIPE" --archive p/archive --model none --out t.h5 --threads 1
same_cohort undisturbed.h5 t.h5

for delay in 0.3 0.9 1.7 2.9; do
    setsid "$COVPIPE" --archive p/archive --model none --out k.h5 --threads 1 >k.out 2>&1 &
    job=$!
    sleep "$delay"
    kill -9 -- "-$job" 2>/dev/null
    wait "$job" 2>/dev/null
done
expect 0 "$COVPIPE" --archive p/archive --model none --out k.h5 --threads 1
same_cohort undisturbed.h5 k.h5

"$COVPIPE" --archive p/archive --model none --out s.h5 --threads 1 --grace 20 >s.out 2>&1 &
job=$!
for k in $(seq 200); do [ "$(find s.h5.parts -name '*.h5' 2>/dev/null | wc -l)" -ge 1 ] && break; sleep 0.05; done
expect 2 "$COVPIPE" --archive p/archive --model none --out s.h5
says "in use"
kill -TERM "$job"
wait "$job"; code=$?
[ $code -eq 75 ] || { cat s.out; fail "SIGTERM: exit code $code, expected 75"; }
expect 0 "$COVPIPE" status s.h5
says "s.h5: stopped, "
expect 0 "$COVPIPE" --archive p/archive --model none --out s.h5 --threads 1
same_cohort undisturbed.h5 s.h5

expect 0 "$LESION_WEIGHTS" unet 5 unet.h5
shared=(--archive p/archive --include '*phantom001*' --threads 1 --lesion unet.h5)
expect 0 "$COVPIPE" "${shared[@]}" --out whole.h5 --split -1
for signal in KILL TERM; do
    rm -rf cut.h5 cut.h5.parts
    setsid "$COVPIPE" "${shared[@]}" --out cut.h5 --split 3 --grace 0.1 >cut.out 2>&1 &
    job=$!
    for k in $(seq 1200); do [ "$(find cut.h5.parts/pieces -type f 2>/dev/null | wc -l)" -ge 2 ] && break; sleep 0.05; done
    [ "$(find cut.h5.parts/pieces -type f | wc -l)" -ge 2 ] || { cat cut.out; fail "the study was not cut up"; }
    if [ $signal = KILL ]; then kill -9 -- "-$job"; else kill -TERM "$job"; fi
    wait "$job" 2>/dev/null; code=$?
    [ $signal = KILL ] || [ $code -eq 75 ] || { cat cut.out; fail "SIGTERM: exit code $code, expected 75"; }
    expect 0 "$COVPIPE" "${shared[@]}" --out cut.h5 --split 5
    same_cohort whole.h5 cut.h5
    [ -z "$(find cut.h5.parts/pieces -type f)" ] || fail "pieces were left behind"
done
