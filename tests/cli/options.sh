# Claims: help fits a screen; every option is in the manual; a wrong word is answered with what to type; exit codes are as documented.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" --help
[ "$(wc -l < out)" -le 40 ] || fail "--help has $(wc -l < out) lines; a screen has 40"
[ "$(awk '{ if (length($0) > w) w = length($0) } END { print w }' out)" -le 120 ] || fail "--help is wider than 120 columns"
[ "$(grep -c '^  .*covpipe' out)" -ge 12 ] || fail "--help does not list the jobs"
expect 0 "$COVPIPE" man
cp out manual
for job in completion inspect export montage phantom train eval bench doctor; do
    expect 0 "$COVPIPE" $job --help
    says "^covpipe $job"
done
grep -o '^    X([a-z_]*, "[a-z-]*"' "$COVPIPE_SOURCE/jobs/options.h" | sed 's/.*"\(.*\)"/\1/' | while read -r option; do
    grep -q -- "$(echo "$option" | sed 's/-/\\\\-/g')" manual || fail "--$option is not in the manual"
done || exit 1
expect 0 "$COVPIPE" --version
says "^covpipe [0-9]"
expect 2 "$COVPIPE" --archve x
says "did you mean --archive"
expect 2 "$COVPIPE" cohort/
says "covpipe --archive cohort/"
expect 2 "$COVPIPE"
says "covpipe --archive DIR"
expect 2 "$COVPIPE" inspect
says "COHORT"
expect 2 "$COVPIPE" --archive . --threads two
says "expected a whole number"
expect 2 "$COVPIPE" inspect c.h5 --threads 2
says "not an option of"
expect 1 "$COVPIPE" inspect missing.h5
says "missing.h5"
expect 2 "$COVPIPE" --archive . --lung-axial missing.h5 --fusion 2
mkdir empty
expect 4 "$COVPIPE" --archive empty --out c.h5
echo not-hdf5 > garbage.h5
expect 1 "$COVPIPE" inspect garbage.h5
says "garbage.h5"
# Threads wait briefly for each other, unless the environment says how.
expect 0 env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT "$COVPIPE" doctor
says "OMP_WAIT_POLICY not set, GOMP_SPINCOUNT 10000"
expect 0 env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=active "$COVPIPE" doctor
says "OMP_WAIT_POLICY active, GOMP_SPINCOUNT not set"
