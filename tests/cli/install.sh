# Claims: an installation elsewhere finds its weights, and has the manual, the completion for bash (which knows every job, and the
# options of each) and the job scripts, which bash can read and which name no site.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 cmake --install "$(dirname "$COVPIPE")" --prefix "$SCRATCH/prefix"
expect 0 prefix/bin/covpipe doctor
says "prefix/bin/../share/covpipe/lung-axial-compact.h5"
[ -s prefix/share/man/man1/covpipe.1 ] || fail "no manual"
source prefix/share/bash-completion/completions/covpipe
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _covpipe; }
complete_line covpipe in
[ "${COMPREPLY[*]}" = inspect ] || fail "covpipe in<TAB>: ${COMPREPLY[*]}"
complete_line covpipe phantom --st
[ "${COMPREPLY[*]}" = --studies ] || fail "covpipe phantom --st<TAB>: ${COMPREPLY[*]}"
complete_line covpipe --archive x --sha
[ "${COMPREPLY[*]}" = --shard ] || fail "covpipe --archive x --sha<TAB>: ${COMPREPLY[*]}"
mkdir folder && touch file
complete_line covpipe --archive f
[ "${COMPREPLY[*]}" = folder ] || fail "covpipe --archive f<TAB>: ${COMPREPLY[*]}"
for script in run array train smoke; do
    bash -n "prefix/share/covpipe/slurm/$script.sbatch" || fail "$script.sbatch"
    grep -qE '^[^#]*(/scratch|/data|module load|--partition|--account)' "prefix/share/covpipe/slurm/$script.sbatch" && fail "$script.sbatch names a site"
done
bash -n prefix/share/covpipe/slurm/site.env && bash -n prefix/share/covpipe/slurm/job.bash || fail "site.env or job.bash"
