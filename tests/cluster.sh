# cluster: a private Slurm for the tests of tests/slurm: munge, slurmctld and four virtual nodes on this host, from Debian's packages,
# on ports and in a folder of their own, so that two checkouts do not meet. `cluster_up` starts it, or says skipped; whatever
# happens, the script's end stops it and everything that was started in it. The traps:
#   TmpFS and Open MPI's shared memory need a folder a node, or ranks of two virtual nodes meet in one file and crash;
#   the nodes claim eight cores where there may be two, so ranks that wait for one another must yield, not spin;
#   with the direct connections of Slurm 22.05's PMIx some ranks are through MPI_Init before others have begun to listen, and Open
#   MPI 4.1 crashes (7 of 70 starts here; 0 of 25 without);
#   ctest ends a test that is late by SIGKILL, so a process of its own watches over this one and tidies up after it;
#   nothing of a job that this script itself may run in (SLURM_*, PMIX_*, OMPI_MCA_*) may reach the jobs in here.
source "$COVPIPE_SOURCE/tests/lib.sh"
for name in $(compgen -e | grep -E '^(SLURM_|SBATCH_|SRUN_|PMI|OMPI_MCA_)'); do unset "$name"; done
export PATH=$PATH:/usr/sbin OMPI_MCA_mpi_yield_when_idle=1 SLURM_PMIX_DIRECT_CONN=false

nodes=4 cpus=2
cluster_down() {
    local pid ids
    [ -d "${root:-}" ] || return 0
    scancel --quiet --state=PENDING >/dev/null 2>&1
    for _ in 1 2; do # what runs in there inherited its SLURM_CONF; steps and their tasks go first, or a node waits for them
        ids=$(grep -lsz "^SLURM_CONF=$root/" /proc/[0-9]*/environ | cut -d/ -f3 | grep -vx $$)
        for pid in $ids; do [ "$pid" = "${BASHPID:-}" ] || kill -9 "$pid" 2>/dev/null; done
    done
    for pid in "$root"/run/*.pid; do kill -9 "$(cat "$pid")" 2>/dev/null; done
    rm -rf "$root"
}

cluster_conf() { # PORT: slurm.conf; slurmctld listens on PORT, node k on PORT + k
    cat <<CONF
ClusterName=covtest
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$1
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
SlurmdSpoolDir=$root/spool/%n
StateSaveLocation=$root/state
TmpFS=$root/tmp/%n
TaskProlog=$root/taskprolog.sh
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=10
InactiveLimit=0
SlurmctldTimeout=10
SlurmdTimeout=10
CONF
    for k in $(seq $nodes); do
        echo "NodeName=n$k NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(($1 + k)) CPUs=$cpus RealMemory=4000 State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20"
    echo "PartitionName=urgent Nodes=n[1-$nodes] MaxTime=INFINITE State=UP PriorityTier=9"
}

# A run of nodes + 1 ports on which nobody listens.
free_port() {
    local port k
    for _ in $(seq 50); do
        port=$((20000 + (RANDOM % 1000) * 10))
        for k in $(seq 0 $nodes); do (exec 3<>"/dev/tcp/127.0.0.1/$((port + k))") 2>/dev/null && continue 2; done
        echo $port
        return
    done
}

node_up() { mkdir -p "$root/spool/$1" "$root/tmp/$1"; slurmd -N "$1" -f "$SLURM_CONF"; }
nodes_idle() { sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l; }
cluster_up() {
    for program in munged slurmctld slurmd srun sbatch; do
        command -v $program >/dev/null || skip "no $program: apt-get install slurm-wlm slurm-wlm-basic-plugins munge"
    done
    root=$(mktemp -d /tmp/covpipe-slurm.XXXXXX)
    trap cluster_down EXIT
    trap 'exit 1' INT TERM HUP
    chmod 755 "$root"
    setsid --fork bash -c "root=$root; $(declare -f cluster_down); while kill -0 $$ 2>/dev/null; do sleep 1; done; cluster_down" >/dev/null 2>&1
    mkdir "$root"/{run,log,state,spool,tmp}
    (umask 077; head -c 1024 /dev/urandom > "$root/munge.key")
    printf '#!/bin/bash\necho "export OMPI_MCA_btl_vader_backing_directory=%s/tmp/$SLURMD_NODENAME"\n' "$root" > "$root/taskprolog.sh"
    chmod 755 "$root/taskprolog.sh"
    cluster_conf "$(free_port)" > "$root/slurm.conf"
    export SLURM_CONF=$root/slurm.conf
    munged --force --key-file="$root/munge.key" --socket="$root/run/munge.socket" --pid-file="$root/run/munged.pid" \
           --log-file="$root/log/munged.log" --seed-file="$root/state/munge.seed" --num-threads=2 &&
        slurmctld -f "$SLURM_CONF" && for k in $(seq $nodes); do node_up "n$k" || break; done
    wait_until 15 '[ "$(nodes_idle)" -eq $nodes ]' || { tail -n 5 "$root"/log/*; fail "Slurm did not start"; }
}

# wait_until SECONDS 'CONDITION'
wait_until() {
    local end=$((SECONDS + $1))
    until eval "$2"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
job_state() { scontrol show job "$1" 2>/dev/null | grep -o 'JobState=[A-Z_]*' | cut -d= -f2; }
job_restarts() { scontrol show job "$1" | grep -o 'Restarts=[0-9]*' | cut -d= -f2; }
# ends JOB SECONDS STATE EXITCODE: the job gets there, or its output is shown.
ends() {
    wait_until "$2" "[ \"\$(job_state $1)\" = $3 ]" || { cat ./*"$1"*.out; fail "job $1 is $(job_state "$1") after $2 s, expected $3"; }
    scontrol show job "$1" | grep -q "ExitCode=$4" || { cat ./*"$1"*.out; fail "job $1: $(scontrol show job "$1" | grep -o 'ExitCode=[0-9:]*'), expected $4"; }
}
parts() { find "$1.parts" -name '*.h5' 2>/dev/null | wc -l; }
# pids JOB COMMAND: processes of that name in a job of this cluster, whatever the rank.
pids() {
    local p
    for p in $(grep -lsz "^SLURM_JOB_ID=$1\$" /proc/[0-9]*/environ | cut -d/ -f3); do
        grep -sqz "^SLURM_CONF=$root/" "/proc/$p/environ" && [ "$(cat "/proc/$p/comm" 2>/dev/null)" = "$2" ] && echo "$p"
    done
}
# Nothing of ours may live on after a job: no rank, no child.
none_left() { # SECONDS
    wait_until "$1" '[ -z "$(pids "[0-9]*" covpipe; pids "[0-9]*" covpipe-worker)" ]' || fail "processes of covpipe outlive their job"
}
