# Claims, of jobs by slurm/run.sbatch: told to stop shortly before its time limit, a job drains, leaves with 75, goes back into the
# queue by itself and ends in the cohort of an undisturbed run; likewise when it is preempted, when a node is lost in the middle and
# when a rank is killed; after scancel no process is left, and the next job computes only what was open.
source "$COVPIPE_SOURCE/tests/cluster.sh"
studies=128 # a fast machine does twenty of them between two looks of this script
expect 0 "$COVPIPE" phantom --out p --studies "$studies" --seed 9 --size 64 --slices 8
screen=(--archive p/archive --model none --axial-only --no-crf --threads 1)
expect 0 "$COVPIPE" "${screen[@]}" --out undisturbed.h5
cluster_up
export COVPIPE
submit() { # NAME SBATCH-OPTIONS...: four ranks on two nodes
    local name=$1; shift
    sbatch --parsable --nodes=2 --ntasks-per-node=2 --cpus-per-task=1 --mem-per-cpu=100 --output="$name-%j.out" "$@" \
           "$COVPIPE_SOURCE/slurm/run.sbatch" "${screen[@]}" --out "$name.h5" --grace 5
}
# under_way NAME JOB: some studies are done, and the workers are stopped, so that the others wait for what comes, on any machine.
under_way() {
    wait_until 600 "[ \$(parts $1.h5) -ge 2 ]" || { cat "$1"-*.out; fail "no study was done"; }
    kill -STOP $(pids "$2" covpipe-worker)
    # Four ranks have three each at hand, which they finish when they are asked to stop.
    [ "$(parts "$1.h5")" -lt $((studies - 16)) ] && incomplete "$1" || fail "$1 was done before it could be disturbed"
}
# What drained in time gathers what there is, and says that this is not all.
incomplete() { [ ! -e "$1.h5" ] || /usr/bin/python3 -c 'import h5py, sys; sys.exit(int(h5py.File(sys.argv[1]).attrs["complete"]))' "$1.h5"; }
finished() { # NAME JOB: completed, with all the bytes, after a restart
    ends "$2" 600 COMPLETED 0:0
    same_cohort undisturbed.h5 "$1.h5"
}
parent() { awk '/^PPid/ { print $2 }' "/proc/$1/status" 2>/dev/null; }
parent_name() { cat "/proc/$(parent "$1")/comm" 2>/dev/null; }
restarted() { [ "$(job_restarts "$1")" -ge 1 ] || fail "job $1 was not put back into the queue"; }

# A minute is the least time limit; with the signal due 57 s before it, it comes soon after the start. The second life gets more time.
job=$(submit limit --time=1 --signal=USR1@57)
under_way limit "$job"
wait_until 120 "[ \"\$(job_restarts $job)\" -ge 1 ]" || { cat limit-*.out; fail "the job was not put back"; }
grep -q "stopped in time; back into the queue" limit-*.out || { cat limit-*.out; fail "the job did not drain"; }
grep -q ", [1-9][0-9]* open" limit-*.out || { cat limit-*.out; fail "the job was done before the signal"; }
scontrol update job "$job" timelimit=30
finished limit "$job"

job=$(submit preempted)
under_way preempted "$job"
expect 0 srun --partition=urgent -N4 -n8 --immediate=60 true
restarted "$job"
finished preempted "$job"

job=$(submit killed)
under_way killed "$job"
for p in $(pids "$job" covpipe); do # the shell of rank 1, which Slurm started itself
    grep -sqz '^PMIX_RANK=1$' "/proc/$p/environ" && [ "$(parent_name "$p")" = slurmstepd ] && kill -9 "$p"
done
finished killed "$job"
grep -q 'the same command goes on where it was' killed-*.out || { cat killed-*.out; fail "a killed rank was not started again"; }

job=$(submit lost) # n1, which has the job's script, and n2, which goes
under_way lost "$job"
tasks=$(grep -lsz "^SLURM_JOB_ID=$job$" /proc/[0-9]*/environ | cut -d/ -f3 | while read -r p; do
    grep -sqz '^SLURMD_NODENAME=n2$' "/proc/$p/environ" && grep -sqz "^SLURM_CONF=$root/" "/proc/$p/environ" && echo "$p"; done)
steps=$(for p in $tasks; do [ "$(parent_name "$p")" = slurmstepd ] && parent "$p"; done | sort -u)
[ -n "$steps" ] || fail "no step of job $job on n2"
kill -9 "$(cat "$root/run/slurmd.n2.pid")" $steps $tasks
wait_until 90 "[ \"\$(job_restarts $job)\" -ge 1 ]" || { cat lost-*.out; fail "the loss of a node was not noticed"; }
finished lost "$job"
node_up n2

job=$(submit cancelled)
under_way cancelled "$job"
scancel "$job"
ends "$job" 60 CANCELLED 0:15
none_left 20
before=$(parts cancelled.h5)
incomplete cancelled || { cat cancelled-*.out; fail "the job was done before it was cancelled"; }
wait_until 30 '[ "$(nodes_idle)" -ge 2 ]'
job=$(submit cancelled)
finished cancelled "$job"
grep -q "(.* of them by an earlier run)" cancelled-"$job".out || { cat cancelled-"$job".out; fail "$before studies were computed again"; }
none_left 20
