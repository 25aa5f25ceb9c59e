# Claims: a worker killed in the middle costs nothing; a job killed at any moment, then the same command again, ends in the same
# tables and masks as an undisturbed run; a signal drains and leaves with 75; a second run on the same output is refused.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 6 --seed 9 --size 96 --slices 12
expect 0 "$COVPIPE" --archive p/archive --out undisturbed.h5 --threads 1
# The worker is the child that has used the most processor time.
busiest() { ps -o pid=,time=,pcpu= -s "$1" --sort=-pcpu | awk 'NR == 1 { print $1 }'; }

setsid "$COVPIPE" --archive p/archive --out w.h5 --threads 1 --log-json >w.out 2>&1 &
job=$!
for k in $(seq 200); do grep -q '"phase":"screening"' w.out && [ "$(find w.h5.parts -name '*.h5' | wc -l)" -ge 1 ] && break; sleep 0.05; done
victim=$(busiest "$job")
[ "$victim" != "$job" ] && kill -9 "$victim"
wait "$job"; code=$?
[ $code -eq 0 ] || { cat w.out; fail "a killed worker: exit code $code"; }
same_cohort undisturbed.h5 w.h5

for delay in 0.3 0.9 1.7 2.9; do
    setsid "$COVPIPE" --archive p/archive --out k.h5 --threads 1 >k.out 2>&1 &
    job=$!
    sleep "$delay"
    kill -9 -- "-$job" 2>/dev/null
    wait "$job" 2>/dev/null
done
expect 0 "$COVPIPE" --archive p/archive --out k.h5 --threads 1
same_cohort undisturbed.h5 k.h5

"$COVPIPE" --archive p/archive --out s.h5 --threads 1 --grace 20 >s.out 2>&1 &
job=$!
for k in $(seq 200); do [ "$(find s.h5.parts -name '*.h5' 2>/dev/null | wc -l)" -ge 1 ] && break; sleep 0.05; done
expect 2 "$COVPIPE" --archive p/archive --out s.h5
says "in use"
kill -TERM "$job"
wait "$job"; code=$?
[ $code -eq 75 ] || { cat s.out; fail "SIGTERM: exit code $code, expected 75"; }
expect 0 "$COVPIPE" --archive p/archive --out s.h5 --threads 1
same_cohort undisturbed.h5 s.h5
