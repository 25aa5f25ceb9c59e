# job: what the job scripts share. `run WHAT...` starts covpipe on the job's ranks and ends the job as its exit code says:
# 75 (stopped by a signal, everything finished is kept) puts the job back into the queue, where the same command goes on; a rank
# that was killed is started again here, for what it had finished is kept too; anything else is the job's exit code.
source "${COVPIPE_SITE:-$here/site.env}"

again() {
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$MOST_RESTARTS" ]; then
        echo "put back $MOST_RESTARTS times already: look at it, then: scontrol requeue $SLURM_JOB_ID" >&2
        exit 75
    fi
    echo "stopped in time; back into the queue (restart $((${SLURM_RESTART_COUNT:-0} + 1)))"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # the requeue ends this script
    exit 75
}

run() {
    local try code
    for try in 1 2 3; do
        code=0
        # shellcheck disable=SC2086 # several words each
        srun $SRUN_MPI $SRUN_GPU $SRUN_MORE --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" $COVPIPE "$@" || code=$?
        [ $code -eq 75 ] && again
        [ $code -lt 128 ] && return $code
        echo "a rank ended with $code; the same command goes on where it was (try $try of 3)" >&2
    done
    return $code
}
