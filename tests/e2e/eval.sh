#!/bin/bash
# Scoring from the command line, on phantoms in true HU. Lesions: the baseline finds what is bright, weights are scored as files and as folds, a threshold
# is chosen and kept, Table 3's sets are made, and wrong calls say what is wrong. Lungs: the grid scores copies with made-up consolidation, too, and
# options are chosen on the others. What the figures mean is tested in tests/unit.
set -eu
rm -rf "$SCRATCH"; mkdir -p "$SCRATCH"; cd "$SCRATCH"
fail() { echo "FAILED: $*" >&2; exit 1; }
"$COVPIPE" phantom --out chests --studies 2 --healthy 1 --seed 3 --size 64 --slices 9 --quiet > /dev/null
common=(--cases chests/cases.csv --threads 1)
run() { "$COVPIPE" eval lesion "${common[@]}" "$@"; }

# Without a model. The cell of column $2 in the study's row.
cell() { grep "^| $1 |" "$3" | tail -1 | cut -d'|' -f"$(($2 + 1))" | tr -d ' '; }
run --threshold-baseline=-600 --tables --json base.json --pictures pictures > base.md 2> base.log
awk -v d="$(cell phantom002 6 base.md)" 'BEGIN { exit !(d > 0.05 && d < 1) }' || fail "volume Dice of the baseline is '$(cell phantom002 6 base.md)'"
[ "$(cell phantom001 12 base.md)" = 0.00 ] || fail "a healthy phantom has lesion in its reference"
grep -q 'paper, testing set | 7953' base.md || fail "--tables shows no row of the paper"
grep -q '"what":"study"' base.json || fail "no study in the JSON"
for f in phantom001-HU___-600 phantom002-HU___-600 froc calibration; do [ -s "pictures/$f.png" ] || fail "no pictures/$f.png: $(ls pictures)"; done

# Two folds of one model, each of which left one patient out; steps enough for a file, not for a result.
train() { "$COVPIPE" train unet "${common[@]}" --steps 1 --batch 2 --size 64 --precision fp32 --quiet "$@" 2> train.log || fail "$(cat train.log)"; }
train --fold phantom001 --out a.h5 --seed 1 --steps 3
train --fold nobody --out b.h5 --seed 2
run --weights a.h5 --fold phantom001 --pictures curves > curves.md 2> curves.log
[ -s curves/loss-unet-compact.png ] || fail "the loss that a file keeps is not drawn: $(ls curves)"
run --weights a.h5,b.h5 --cross --score 0.05 > cross.md 2> cross.log
[ "$(grep -c '^| phantom00' cross.md)" = 1 ] || fail "--cross scored what no fold left out"
grep -q 'prove nothing' cross.md && fail "--cross scored what a fold was trained on"
run --weights a.h5,b.h5 --fold phantom002 --coronal --merge 2 --score 0.05 > sets.md 2> sets.log
grep -q 'prove nothing' sets.md || fail "nothing is said of a patient that the weights have seen"
grep -q '| unet a.h5 | coronal: 1 volumes' sets.md || fail "no coronal row: $(grep coronal sets.md)"
grep -q '| unet b.h5 | merged: 3 samples of 2 slices' sets.md || fail "no merged row: $(grep merged sets.md)"

# The threshold is chosen on the patients that the file was trained on, and found in it afterwards.
run --weights a.h5 --choose volume > choose.txt 2> choose.log
chosen=$(grep -o 'score >= [0-9.]*' choose.txt | cut -d' ' -f3)
grep -q '1 studies of 1 patients' choose.txt || fail "chosen on others than the training patients: $(head -1 choose.txt)"
run --weights a.h5 --fold phantom001 > after.md 2> after.log
grep -q "score ≥ $chosen" after.md || fail "the chosen threshold $chosen is not used: $(grep '^- ' after.md)"

# ... or on the others' held-out results: here a and c are best at 0.2, b at 0.8, and h, who is well, from 0.5 on.
grep -q '"what":"study sweep".*"threshold":0.05' base.json || fail "no study at each threshold in the JSON"
python3 - > sweep.json << 'EOF'
import json
rows = []
for patient, best in ("a", 0.2), ("b", 0.8), ("c", 0.2), ("h", None):
    for t in (0.2, 0.5, 0.8):
        truth = 0 if best is None else 1000
        both = 0 if best is None else 900 if t == best else 600
        found = (400 if t < 0.5 else 0) if best is None else 1000
        rows.append({"what": "study sweep", "id": patient + "1", "patient": patient, "isolated": 0, "lung_px": 10000, "truth_px": truth, "found_px": found,
                     "both_px": both, "threshold": t, "Dice, all slices": [10 * both / 1000 if truth else 10 * (found == 0), 10]})
print(json.dumps(rows))
EOF
python3 "$COVPIPE_SOURCE/scripts/lesion-choice.py" sweep.json > lesion-choice.md || fail "no choice: $(tail -1 lesion-choice.md)"
for row in '| a1 | a | 0.80 | 0.6000 |' '| b1 | b | 0.20 | 0.6000 |' '| h1 | h | 0.20 | - | 4.00 | 0.00 |'; do
    grep -qF "$row" lesion-choice.md || fail "expected $row of $(cat lesion-choice.md)"
done

code=0; run 2> none.log || code=$?
[ $code = 2 ] && grep -q -- '--weights' none.log || fail "eval lesion without weights (exit code $code)"
code=0; run --weights a.h5 --choose best > /dev/null 2> best.log || code=$?
[ $code = 2 ] && grep -q 'dice, volume, all or screen' best.log || fail "--choose best (exit code $code)"
code=0; run --weights a.h5 --fold somebody 2> fold.log || code=$?
[ $code = 2 ] && grep -q 'no annotated case' fold.log || fail "a fold without cases (exit code $code)"

# The lungs' grid, a fold each, and the choice for each patient on the others.
"$COVPIPE" phantom --out lungs --studies 2 --seed 5 --size 64 --slices 9 --quiet > /dev/null
grid() { "$COVPIPE" eval lung --grid --cases lungs/cases.csv --threads 1 --fold "$1" --json "$1.json" > "$1.txt" 2> "$1.log" || fail "$(cat "$1.log")"; }
grid phantom002; cp phantom002.txt again.txt
grid phantom001; grid phantom002
cmp -s again.txt phantom002.txt || fail "a grid differs from one run to the next"
points=$(grep -c '"variant":"grid"' phantom002.json)
[ "$points" -gt 1 ] || fail "a grid of $points points"
for copy in 1 2; do
    n=$(grep "\"variant\":\"drawn\",\"copy\":$copy,\"fusion\"" phantom002.json | grep '"dice":[01]\.' | grep -c '"drawn_kept":[01]\.')
    [ "$n" = "$points" ] || fail "copy $copy has $n scores of $points"
done
python3 "$COVPIPE_SOURCE/scripts/lung-choice.py" phantom00*.json > choice.md || fail "no choice: $(tail -1 choice.md)"
grep -Eq '^\| phantom002 \| phantom002 \| 0\.[0-9]+ \|.*(\| [01]\.[0-9]{4} ){4}\|$' choice.md || fail "no row of the choice: $(cat choice.md)"
echo "scoring from the command line: all checks passed"
