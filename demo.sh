#!/usr/bin/env bash
# covpipe in one go on Debian 12: packages, build, a phantom archive, a screening with 2 ranks, the table, a picture.
# May be run again; then it is quick. Everything goes into ./demo and ./build.
set -euo pipefail
cd "$(dirname "$0")"
bash scripts/packages.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build --target covpipe -- --quiet
covpipe=$PWD/build/covpipe
mkdir -p demo
[ -e demo/phantoms/cases.csv ] || "$covpipe" phantom --out demo/phantoms --studies 6 --seed 7 --odd --quiet

run=(mpirun --quiet -n 2 --oversubscribe --bind-to none)
[ "$(id -u)" -eq 0 ] && run+=(--allow-run-as-root)
echo "screening demo/phantoms/archive with 2 ranks ..."
status=0
"${run[@]}" "$covpipe" --archive demo/phantoms/archive --out demo/cohort.h5 --threads $(( ($(nproc) + 1) / 2 )) || status=$?
[ $status -eq 0 ] || [ $status -eq 3 ] || exit $status   # 3: the damaged studies of --odd are counted as failed, as they should be

"$covpipe" inspect demo/cohort.h5
"$covpipe" montage demo/cohort.h5 --out demo/montage >/dev/null
echo
echo "cohort file: $PWD/demo/cohort.h5"
echo "pictures:    $(ls "$PWD"/demo/montage/*.png | head -1) and $(( $(ls demo/montage/*.png | wc -l) - 1 )) more"
echo "your own:    $covpipe --archive DIR --out cohort.h5"
