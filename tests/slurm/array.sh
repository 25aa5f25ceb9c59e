# Claims: an array of jobs by slurm/array.sbatch, each with its shard, and then slurm/run.sbatch, which waits for them, end in the
# cohort of a run without Slurm; the second job computes nothing.
source "$COVPIPE_SOURCE/tests/cluster.sh"
expect 0 "$COVPIPE" phantom --out p --studies 6 --odd --seed 9 --size 64 --slices 8
screen=(--archive p/archive --model none --axial-only --no-crf --threads 1)
expect 3 "$COVPIPE" "${screen[@]}" --out whole.h5
cluster_up
export COVPIPE
small=(--parsable --nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem-per-cpu=100)
array=$(sbatch "${small[@]}" --array=1-4 "$COVPIPE_SOURCE/slurm/array.sbatch" "${screen[@]}" --out c.h5) || fail "sbatch"
gather=$(sbatch "${small[@]}" --dependency=afterany:"$array" "$COVPIPE_SOURCE/slurm/run.sbatch" "${screen[@]}" --out c.h5) || fail "sbatch"
wait_until 600 "[ \"\$(job_state $gather)\" = FAILED ]" # 3: some studies of --odd cannot be read
cat covpipe-*.out > out
scontrol show job "$gather" | grep -q 'ExitCode=3:0' || { cat out; fail "the gathering job: $(scontrol show job "$gather" | grep -o 'ExitCode=[0-9:]*')"; }
says "11 studies: 7 done, 2 skipped, 2 failed (11 of them by an earlier run)"
[ "$(ls covpipe-"$array"_?.out | wc -l)" = 4 ] || fail "expected the output of four jobs"
same_cohort whole.h5 c.h5
