# Claim: tables and masks, of lungs and of lesions, have the same bytes for 1, 2, 3 and 5 ranks, other unit sizes, one thread or two, and
# whether ranks share a study or not.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out lungs --studies 5 --odd --seed 5 --size 96 --slices 10
for n in 1 2 3 5; do
    expect 3 ranks "$n" "$COVPIPE" --archive lungs/archive --out "l$n.h5" --threads 1 --model none --unit-slices $((n == 3 ? 1000 : n))
    says "10 studies: 6 done, 2 skipped, 2 failed"
    same_cohort l1.h5 "l$n.h5"
done
expect 3 "$COVPIPE" --archive lungs/archive --out two.h5 --threads 2 --model none
same_cohort l1.h5 two.h5
expect 0 "$COVPIPE" phantom --out p --studies 2 --odd --seed 5 --size 96 --slices 8
expect 0 "$LESION_WEIGHTS" st 7 st.h5
expect 0 python3 "$tests/png_slices.py" p/archive/site-a/phantom001/ct.nii.gz p/archive/pictures
rm p/archive/odd/copy.nii.gz p/archive/odd/head.nii.gz
split=(0 -1 3 0 0 1)
for n in 1 2 3 5; do
    expect 3 ranks "$n" "$COVPIPE" --archive p/archive --out "c$n.h5" --threads 1 --lesion st.h5 --score 0.9 --unit-slices $((n == 3 ? 1000 : n)) --split "${split[$n]}"
    says "6 studies: 3 done, 1 skipped, 2 failed"
    same_cohort c1.h5 "c$n.h5"
done
/usr/bin/python3 - <<'PY' || fail "the lesions of the cohort"
import h5py
f = h5py.File("c1.h5")
s, l = f["study"], f["lesion"]
assert l["z"].shape[0] > 20, "too few lesions to claim anything"
for k in range(s["id"].shape[0]):
    if s["status"][k]:
        assert s["lesion_count"][k] == -1 and s["lesion_row0"][k] == -1
        continue
    mask = f["mask"][s["mask_set"].asstr()[k]]
    rows = slice(s["mask_row0"][k], s["mask_row0"][k] + s["slices"][k])
    lesion, lung = mask["lesion"][rows], mask["lung"][rows]
    a, b = s["lesion_row0"][k], s["lesion_row0"][k] + s["lesion_rows"][k]
    assert not (lesion[lung == 0]).any() and (lesion > 0).sum() == sum(l["area_px"][a:b])
    assert sorted(set(l["lesion_id"][a:b])) == list(range(1, s["lesion_count"][k] + 1)) == [i for i in sorted(set(lesion.flat)) if i]
    assert abs(s["involvement_percent"][k] - 100 * (lesion > 0).sum() / (lung > 0).sum()) < 1e-6
    ml = s["lesion_ml"][k]
    assert (ml != ml) == (s["path"].asstr()[k] == "pictures"), "isolated slices have no millilitres, volumes do"
PY
