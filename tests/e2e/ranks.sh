# Claim: tables and masks have the same bytes for 1, 2, 3 and 5 ranks and other unit sizes.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 5 --odd --seed 5 --size 96 --slices 10
for n in 1 2 3 5; do
    expect 3 ranks "$n" "$COVPIPE" --archive p/archive --out "c$n.h5" --threads 1 --unit-slices $((n == 3 ? 1000 : n))
    says "10 studies: 6 done, 2 skipped, 2 failed"
    same_cohort c1.h5 "c$n.h5"
done
