# Claims: inputs that break readers, and real chests beside them, end done, skipped or failed with the right reason;
# two volumes of one name in different folders are two studies; a chest stored anterior-down has its right lung on the right.
source "$COVPIPE_SOURCE/tests/lib.sh"
[ -d "$COVPIPE_CT/odd" ] || skip "no real CT at $COVPIPE_CT"
run() { "$@" --archive "$COVPIPE_CT" --include 'odd/*' --include 'extra/*' --include 'volumes/lm00*' --threads 1; }
expect 3 run ranks 2 "$COVPIPE" --out c.h5
says "46 studies: 4 done, 37 skipped, 5 failed"
expect 0 "$COVPIPE" inspect c.h5 --csv
cp out table.csv
python3 - <<'PY' || fail "reasons and sides"
import csv
rows = {r["path"]: r for r in csv.DictReader(open("table.csv"))}
want = {"odd/misc/truncated_gzip.nii.gz": "TRUNCATED", "odd/misc/totalseg_pelvis_no_lungs_int32.nii.gz": "NO_LUNG",
        "odd/misc/totalseg_partial_thorax.nii.gz": "",
        "odd/nifti_reader_js/not-nifti.nii": "BAD_HEADER", "odd/nibabel/example4d.nii.gz": "NOT_3D", "odd/nibabel/row_major.dconn.nii": "NOT_3D",
        "odd/nibabel/standard.nii.gz": "NOT_CT", "odd/misc/CT_AVM_head.nii.gz": "NOT_CT", "odd/nibabel/nifti1.hdr": "TRUNCATED",
        "volumes/lm001/lung.nii.gz": "NOT_CT", "extra/cip64/ct-64.nii.gz": ""}
for path, reason in want.items():
    assert rows[path]["reason"] == reason, (path, rows[path]["reason"], rows[path]["detail"])
chests = [r for p, r in rows.items() if p.startswith("volumes/lm00") and p.endswith("ct.nii.gz")]
assert len(chests) == 2 and len({r["id"] for r in chests}) == 2, chests
for r in chests: # the heart makes the left lung the smaller one
    assert float(r["lung_right_ml"]) > float(r["lung_left_ml"]) > 500, (r["path"], r["lung_right_ml"], r["lung_left_ml"])
PY
