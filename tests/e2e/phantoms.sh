# Claims: a phantom archive goes in and a cohort file comes out in which every study is accounted for with the right reason; lung
# volumes are near the known ones; export restores the input's geometry bit for bit, of lungs and of lesions; montage draws; metadata
# joins; a second run computes nothing; a study added later is all that a third run computes; a run without lesion weights says so,
# and the lesion weights belong to what a result depends on.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 4 --healthy 1 --odd --seed 3 --size 160 --slices 28
expect 0 "$LESION_WEIGHTS" unet 3 unet.h5
printf 'path,pseudonym,date\nsite-a/phantom001/ct.nii.gz,"K, 7",2020-03-01\n' > meta.csv
expect 3 "$COVPIPE" --archive p/archive --out c.h5 --metadata meta.csv --lesion unet.h5
says "9 studies: 5 done, 2 skipped, 2 failed"
expect 0 "$COVPIPE" inspect c.h5 --study site-a/phantom001/ct.nii.gz
says "lesion_count"
says "rows, columns"
expect 0 "$COVPIPE" inspect c.h5
cp out table
for line in "odd__truncated.*failed *TRUNCATED" "odd__garbage.*failed *BAD_HEADER" "odd__labels.*skipped *NOT_CT" "odd__head.*skipped *NO_LUNG" "odd__copy.*done"; do
    grep -q "$line" table || { cat table; fail "no line like: $line"; }
done
expect 0 "$COVPIPE" inspect c.h5 --csv
cp out table.csv
python3 - <<'PY' || fail "figures against the truth"
import csv
truth = {r["path"]: r for r in csv.DictReader(open("p/truth.csv"))}
rows = {r["path"]: r for r in csv.DictReader(open("table.csv"))}
assert rows["site-a/phantom001/ct.nii.gz"]["pseudonym"] == "K, 7", rows["site-a/phantom001/ct.nii.gz"]
assert rows["odd/copy.nii.gz"]["input_sha256"] == rows["site-a/phantom001/ct.nii.gz"]["input_sha256"]
for path, t in truth.items():
    for side in ("right", "left"):
        want, got = float(t[f"lung_{side}_ml"]), float(rows[path][f"lung_{side}_ml"])
        assert abs(got - want) <= 0.1 * want, f"{path}: {side} lung {got} ml, known {want} ml"
PY
expect 0 "$COVPIPE" export c.h5 --out masks
[ "$(ls masks | wc -l)" -eq 10 ] || fail "expected 5 lung and 5 lesion masks"
python3 - <<'PY' || fail "export does not restore the geometry"
import csv, gzip, struct
def header(path):
    raw = (gzip.open if path.endswith(".gz") else open)(path, "rb").read(544)
    size = struct.unpack("<i", raw[:4])[0]
    swap = ">" if size not in (348, 540) else "<"
    if struct.unpack(swap + "i", raw[:4])[0] == 348:
        fields = struct.unpack(swap + "8h", raw[40:56])[:4], struct.unpack(swap + "8f", raw[76:108])[:4], struct.unpack(swap + "2h18f", raw[252:328]), struct.unpack("<B", raw[123:124])
    else:
        fields = struct.unpack(swap + "8q", raw[16:80])[:4], struct.unpack(swap + "8d", raw[104:168])[:4], struct.unpack(swap + "2i18d", raw[344:496]), struct.unpack(swap + "i", raw[500:504])
    return fields
for r in csv.DictReader(open("table.csv")):
    if r["status"] == "done":
        for mask in ("lung", "lesion"):
            a, b = header("p/archive/" + r["path"]), header(f"masks/{r['id']}_{mask}.nii.gz")
            assert a == b, f"{r['path']}\n{a}\n{b}"
PY
expect 0 "$COVPIPE" montage c.h5 --out pictures
[ "$(ls pictures/*.png | wc -l)" -eq 5 ] || fail "expected 5 pictures"
[ "$(wc -l < c-failures.csv)" -eq 5 ] || { cat c-failures.csv; fail "the failures CSV should list 4 studies"; }
cp c.h5 before.h5
expect 3 "$COVPIPE" --archive p/archive --out c.h5 --metadata meta.csv --lesion unet.h5
says "9 of them by an earlier run"
same_cohort before.h5 c.h5
cp p/archive/site-a/phantom001/ct.nii.gz p/archive/later.nii.gz
rm p/archive/odd/labels.nii.gz
expect 3 "$COVPIPE" --archive p/archive --out c.h5 --lesion unet.h5
says "9 studies: 6 done, 1 skipped, 2 failed (8 of them by an earlier run)"
mkdir share
cp "$COVPIPE_SOURCE"/share/lung-* share
expect 3 env COVPIPE_SHARE=share "$COVPIPE" --archive p/archive --list c-failures.csv --out again.h5
says "no lesion weights of preset compact are installed: lungs only"
says "3 studies: 0 done, 1 skipped, 2 failed"
expect 3 "$COVPIPE" --archive p/archive --list c-failures.csv --out again.h5 --lesion unet.h5
says "3 studies: 0 done, 1 skipped, 2 failed, in"
expect 2 "$COVPIPE" --archive p/archive --out again.h5 --lesion unet.h5 --model st
says "holds the model 'unet', and --model asks for 'st'"
expect 2 "$COVPIPE" --archive p --out c.h5
says "belongs to the archive"
expect 0 "$COVPIPE" status c.h5
says "c.h5: finished, 9 of 9 studies"
expect 0 "$COVPIPE" clean c.h5
[ ! -e c.h5.parts ] || fail "clean left the parts"
