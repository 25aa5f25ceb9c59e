# Claims, on a Slurm of four nodes: `srun` screens an archive over all of them, and the cohort has the bytes of a run without Slurm;
# without PMIx the tasks stop at once, say what to type and leave nothing behind; a single task needs no PMIx, neither in a step
# nor in a batch script, where mpirun works too. The smoke test of a site passes.
source "$COVPIPE_SOURCE/tests/cluster.sh"
expect 0 "$COVPIPE" phantom --out p --studies 5 --odd --seed 9 --size 64 --slices 8
screen=("$COVPIPE" --archive p/archive --model none --axial-only --threads 1)
expect 3 ranks 2 "${screen[@]}" --out mpirun.h5
cluster_up

expect 3 srun -N4 -n8 "${screen[@]}" --out eight.h5
says "10 studies: 6 done, 2 skipped, 2 failed"
same_cohort mpirun.h5 eight.h5
[ "$(/usr/bin/python3 -c 'import h5py; print(int(h5py.File("eight.h5").attrs["ranks"]))')" = 8 ] || fail "the cohort was not written by eight ranks"
none_left 10

for mpi in none pmi2; do
    expect 2 srun -N2 -n4 --mpi=$mpi "${screen[@]}" --out none.h5
    says "Slurm started 4 tasks, but MPI sees one rank: use .srun --mpi=pmix covpipe"
    expect 2 srun -N2 -n2 --mpi=$mpi "$COVPIPE" train lung-axial --cases p/cases.csv --steps 1 --out none.h5
    says "srun --mpi=pmix"
    [ "$(echo none*)" = 'none*' ] || fail "tasks without PMIx left something behind: $(echo none*)"
done
expect 0 srun -N1 -n1 --mpi=none "${screen[@]}" --out single.h5 --dry-run
cat > batch.sh <<SCRIPT
#!/bin/bash
${screen[*]} --out batch.h5 --dry-run && mpirun -n 2 --oversubscribe ${screen[*]} --out batch.h5 --dry-run
SCRIPT
expect 0 sbatch --wait --nodes=2 --ntasks=4 --output=batch.out batch.sh
grep -q 'on 1 rank' batch.out && grep -q 'on 2 rank' batch.out || { cat batch.out; fail "in a batch script, alone and by mpirun"; }

export COVPIPE
expect 0 sbatch --wait --mem-per-cpu=100 --output=smoke.out "$COVPIPE_SOURCE/slurm/smoke.sbatch"
cp smoke.out out
says "ok *launch *4 ranks on 2 node(s), started by Slurm"
says "ok *locks"
says "smoke test: all is well"
