# Claim: the main job on a GPU gives the CPU's cohort: the same studies with the same fate, lung masks that agree to a Dice of 0.999
# in fp32 and, against the CPU's own bf16, 0.995 in bf16; millilitres to half a per cent (bf16: 1 %). Needs no more than the program and Python's own library.
# LESIONS=MODEL compares lesions, too, of one of the models that come along (of weights that have learnt nothing rounding decides what a mask is).
source "$COVPIPE_SOURCE/tests/lib.sh"
"$COVPIPE" doctor --device cuda > doctor.txt
if grep -q 'no GPU' doctor.txt; then
    grep 'no GPU' doctor.txt
    echo skipped
    exit 77
fi
grep -E 'backend|in use' doctor.txt
expect 0 "$COVPIPE" phantom --out p --studies "${STUDIES:-1}" --seed 11 --size "${SIZE:-96}" --slices "${SLICES:-8}"
more=(--model none ${MORE:-})
[ -z "${LESIONS:-}" ] || more=(--model "$LESIONS")
for run in cpu/fp32 cpu/bf16 cuda/fp32 cuda/bf16; do
    out=${run/\//-}
    expect 0 "$COVPIPE" --archive p/archive --out "$out.h5" --device "${run%/*}" --precision "${run#*/}" "${more[@]}"
    expect 0 "$COVPIPE" inspect "$out.h5" --csv
    cp out "$out.csv"
    expect 0 "$COVPIPE" export "$out.h5" --out "$out"
done
python3 "$tests/gpu/compare_cohorts.py" cpu-fp32 cuda-fp32 0.999 0.005 || fail "fp32 on the GPU against the CPU"
python3 "$tests/gpu/compare_cohorts.py" cpu-bf16 cuda-bf16 0.995 0.01 || fail "bf16 on the GPU against the CPU"
cp cuda-fp32.h5 first.h5
rm -r cuda-fp32.h5.parts
expect 0 "$COVPIPE" --archive p/archive --out cuda-fp32.h5 --device cuda --precision fp32 "${more[@]}"
expect 0 "$COVPIPE" export cuda-fp32.h5 --out again
for mask in again/*; do cmp "$mask" "cuda-fp32/${mask##*/}" || fail "a second run on the GPU gives other bytes"; done
