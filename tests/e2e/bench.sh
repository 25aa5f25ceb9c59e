# Claim: bench times networks, the CRF and both halves of a study, and says so in JSON; what it does not know it answers with what there is.
source "$COVPIPE_SOURCE/tests/lib.sh"
expect 0 "$COVPIPE" bench study --size 64 --slices 16 --repeat 1 --threads 1 --json study.json
says '^study  *lungs .* 16 '
says '^study  *lesions .* 16 '
python3 - <<'PY' || fail "study.json"
import json
rows = json.load(open("study.json"))
assert [(r["case"], r["what"], r["batch"]) for r in rows] == [("study", "lungs", 16), ("study", "lesions", 16)], rows
assert all(r["median_s"] > 0 for r in rows), rows
PY
expect 0 "$COVPIPE" bench study --size 64 --slices 16 --repeat 1 --threads 1 --model none
says '^study  *lungs'
! grep -q lesions out || fail "lesions are timed with --model none"
expect 0 "$COVPIPE" bench crf --size 64 --repeat 1 --threads 1
says '^crf  *10 iter'
expect 0 "$COVPIPE" bench lung-compact --size 64 --repeat 1 --threads 1 --precision fp32 --training
says '^lung-compact  *forward'
expect 2 "$COVPIPE" bench nothing
says "nothing of that name to time; there are nets, crf, study"
