# Claims: an archive full of header bombs, fields that are no numbers, odd names, links in circles and out of the archive, FIFOs, devices
# and a file that grows costs no study of its neighbours a byte, is accounted for by reason, leads nowhere outside the archive, paints
# no terminal, and takes neither memory nor time that a harmless one would not.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" phantom --out p --studies 1 --seed 9 --size 32 --slices 4 --quiet
small=(--model none --axial-only --no-crf --precision fp32 --threads 1 --max-gib 0.1 --timeout 20)
expect 0 "$COVPIPE" --archive p/archive --out alone.h5 "${small[@]}"
/usr/bin/python3 "$tests/hostile_archive.py" p/archive >expected || fail "the archive could not be made"
(for k in $(seq 600); do printf '%01000d' 0; sleep 0.02; done >>p/archive/grows/ct.nii) &
grower=$!
/usr/bin/python3 - "$COVPIPE" "${small[@]}" <<'PY' || fail "the run"
import resource, subprocess, sys, time
start = time.monotonic()
job = subprocess.run([sys.argv[1], "--archive", "p/archive", "--out", "c.h5"] + sys.argv[2:], stdin=subprocess.DEVNULL,
                     stderr=open("out", "wb"), timeout=300)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"exit code {job.returncode}, {time.monotonic() - start:.1f} s, at most {peak:.0f} MiB a process")
sys.exit(job.returncode != 3 or peak > 512)
PY
kill "$grower" 2>/dev/null
LC_ALL=C grep -q $'\x1b' out && fail "an escape sequence came out of a file name"
says "could not be read"
/usr/bin/python3 - <<'PY' || fail "not accounted for as expected"
import ast, sys, h5py
def table(name):
    with h5py.File(name) as f:
        meaning = f["study/reason"].attrs
        words = meaning["flag_meanings"]
        words = (words.decode() if isinstance(words, bytes) else words).split()
        codes = dict(zip(map(int, meaning["flag_values"]), words))
        return {bytes(p): (codes[int(r)], ml) for p, r, ml in zip(f["study/path"][()], f["study/reason"][()], f["study/lung_ml"][()])}
have, alone, bad = table("c.h5"), table("alone.h5"), 0
want = [line.rstrip("\n").split("\t") for line in open("expected")]
for reason, name in want:
    name = ast.literal_eval(name)
    shown = name.decode(errors="replace").replace("\ufffd", "?").encode()
    found = have.pop(name, None) or have.pop(shown, None)
    if not found or found[0] != reason:
        print("expected", reason, name[:80], "and found", found)
        bad = 1
grown = have.pop(b"grows/ct.nii", None)
if not grown or grown[0] not in ("TRUNCATED", "CHANGED"):
    print("the file that grows:", grown)
    bad = 1
for path, row in alone.items():
    if have.pop(path, None) != row:
        print("the neighbour", path, "is not what it was")
        bad = 1
for path, row in have.items():
    print("unexpected:", path[:200], row)
    bad = 1
sys.exit(bad)
PY
