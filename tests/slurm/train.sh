# Claim: a training on four ranks of two nodes by slurm/train.sbatch, told to stop in the middle, goes back into the queue by itself
# and ends in the same weights and the same loss of every step, bit for bit, as one that was left alone.
source "$COVPIPE_SOURCE/tests/cluster.sh"
expect 0 "$COVPIPE" phantom --out p --studies 2 --seed 3 --size 64 --slices 12
cluster_up
export COVPIPE
submit() {
    sbatch --parsable --nodes=2 --ntasks-per-node=2 --cpus-per-task=1 --mem-per-cpu=100 --output="$1-%j.out" "$COVPIPE_SOURCE/slurm/train.sbatch" \
           lung-sagittal --cases p/cases.csv --steps 400 --batch 4 --size 32 --threads 1 --precision fp32 --checkpoint 0.002 --out "$1.h5"
}
job=$(submit alone)
ends "$job" 600 COMPLETED 0:0
job=$(submit stopped)
wait_until 300 '[ -e stopped.h5.checkpoint ]' || { cat stopped-*.out; fail "no checkpoint"; }
kill -STOP $(pids "$job" covpipe)
[ ! -e stopped.h5 ] || fail "the training was done before it could be stopped"
scancel --signal=USR1 "$job"
sleep 1
kill -CONT $(pids "$job" covpipe)
wait_until 300 "[ \"\$(job_restarts $job)\" -ge 1 ]" || { cat stopped-*.out; fail "the training did not go back into the queue"; }
grep -q "stopped in time" stopped-*.out || { cat stopped-*.out; fail "the training did not stop in order"; }
ends "$job" 600 COMPLETED 0:0
/usr/bin/python3 - <<'PY' || fail "the requeued training ended elsewhere"
import h5py
a, b = h5py.File("alone.h5"), h5py.File("stopped.h5")
curve = a["record"].attrs["loss_curve"]
assert len(curve) > 60, "no loss curve"
assert curve == b["record"].attrs["loss_curve"], "loss curves"
assert a.attrs["sha256"] == b.attrs["sha256"], "weights"
print("weights and losses agree:", a.attrs["sha256"])
PY
