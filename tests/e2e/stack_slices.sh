# Claim: scripts/stack-slices.py makes a volume of slices that lie in order: their masks, HU by the lung window, the patient's sides; training takes
# it, and slices in another order, too few of them or of two sizes are refused by name.
source "$COVPIPE_SOURCE/tests/lib.sh"
python=/usr/bin/python3
"$python" -c 'import numpy, PIL' 2>/dev/null || skip "python3-pil and python3-numpy are missing"
cat > make.py <<'PY'
import csv, os, numpy as np
from PIL import Image
rows = []
for k in range(12):  # from the feet: a lung that grows and wanders to the patient's left, a lesion at its back
    y, x = np.mgrid[:48, :64]
    lung = (y - 24) ** 2 + (x - 20 - k) ** 2 < (6 + k) ** 2
    lesion = lung & (y > 26)
    grey = np.where(lesion, 100, np.where(lung, 30, 255)).astype("u1")
    grey[0, 0] = 0
    row = {"id": f"a-{k:02d}", "patient": "a", "kind": "slice", "period": "", "split": "train", "intensity": "8bit"}
    for name, image in ("ct", grey), ("lung", lung * np.uint8(255)), ("lesion", lesion * np.uint8(255)):
        os.makedirs(name, exist_ok=True)
        row[name] = f"{name}/{row['id']}.png"
        Image.fromarray(image).save(row[name])
    rows.append(row)
with open("cases.csv", "w") as f:
    w = csv.DictWriter(f, ["id", "patient", "kind", "ct", "lung", "lesion", "period", "split", "intensity"])
    w.writeheader()
    w.writerows(rows)
PY
"$python" make.py
stack() { "$python" "$COVPIPE_SOURCE/scripts/stack-slices.py" "$@" > out 2>&1; }
stack cases.csv stacks a- || fail "$(cat out)"
[ "$(grep -c volume stacks/cases.csv)" = 1 ] && ! grep -q ',slice,' stacks/cases.csv || fail "$(cat stacks/cases.csv)"
stack --keep cases.csv kept a- && [ "$(grep -c ',slice,' kept/cases.csv)" = 12 ] || fail "--keep keeps no slices"
cat > check.py <<'PY'
import gzip, struct, numpy as np
from PIL import Image
def read(name, kind):
    head = gzip.open(f"stacks/a-/{name}.nii.gz").read()
    assert struct.unpack_from("<8h", head, 40)[:4] == (3, 64, 48, 12)
    assert struct.unpack_from("<12f", head, 280) == tuple(np.float32([-1.4, 0, 0, 0, 0, -1.4, 0, 0, 0, 0, 1.5, 0]))  # left, back, up
    return np.frombuffer(head, kind, offset=352).reshape(12, 48, 64)
ct, lung, lesion = read("ct", "<i2"), read("lung", "u1"), read("lesion", "u1")
for k in range(12):
    assert (lung[k] == (np.asarray(Image.open(f"lung/a-{k:02d}.png")) > 0)).all() and (lesion[k] == (np.asarray(Image.open(f"lesion/a-{k:02d}.png")) > 0)).all()
assert ct[0, 0, 0] == -1300 and ct[0, 0, 1] == 300 and (ct[lesion > 0] == round(-1300 + 1600 * 100 / 255)).all()
PY
"$python" check.py || fail "the volume is not what the slices are"
expect 0 "$COVPIPE" train lung-sagittal --cases stacks/cases.csv --threads 1 --steps 1 --size 32 --batch 1 --out w.h5
says "1 volumes and 0 isolated slices of 1 patients"
if stack cases.csv none b-; then fail "no slices make a stack"; fi
grep -q '^b-: 0 slices' out || fail "$(cat out)"
mv ct/a-01.png keep.png; mv ct/a-10.png ct/a-01.png; mv keep.png ct/a-10.png
if stack cases.csv swapped a-; then fail "slices in another order were taken"; fi
grep -q 'is no neighbour of the one before' out || fail "$(cat out)"
