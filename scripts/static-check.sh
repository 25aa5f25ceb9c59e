#!/usr/bin/env bash
# Static analysis of base, data, mpi, stages, kernels and jobs: cppcheck, clang-tidy (its bug finders), gcc -fanalyzer. Some
# minutes; needs cppcheck and clang-tidy, and a build folder that CMake has configured. Prints findings; exit code 1 if there is one that
# docs/RELIABILITY.md does not explain (the list below).
#   scripts/static-check.sh [BUILD=build] [FOLDER...]
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}; [ $# -eq 0 ] || shift

folders=("$@"); [ $# -gt 0 ] || folders=(base data mpi stages kernels jobs)
out=$build/static; mkdir -p "$out"
for tool in cppcheck clang-tidy gcc; do command -v $tool >/dev/null || { echo "no $tool"; exit 77; }; done
mapfile -t sources < <(find "${folders[@]}" -name '*.c' ! -path '*/cuda/*' | sort)
[ -s "$build/compile_commands.json" ] || cmake -S . -B "$build" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null

cppcheck -q --enable=warning,performance,portability --std=c11 --suppress=missingIncludeSystem --suppress=internalAstError -I . \
         -D_GNU_SOURCE -DMPI_TAKES_PMI2=0 '-DCOVPIPE_VERSION="0"' --template='{file}:{line}: {message} [{id}]' "${sources[@]}" 2>"$out/cppcheck"
clang-tidy -p "$build" --quiet --checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions,-bugprone-reserved-identifier,-bugprone-macro-parentheses,-bugprone-implicit-widening-of-multiplication-result,-clang-analyzer-security.insecureAPI.*' \
           "${sources[@]}" 2>/dev/null | grep -E '(warning|error):' | sort -u >"$out/clang-tidy"
includes=$(pkg-config --cflags-only-I hdf5-openmpi ompi-c 2>/dev/null)
for f in "${sources[@]}"; do # shellcheck disable=SC2086
    gcc -std=gnu11 -O1 -fanalyzer -c -o /dev/null -I . $includes -I /usr/include/nifti -fopenmp -D_GNU_SOURCE -DMPI_TAKES_PMI2=0 '-DCOVPIPE_VERSION="0"' "$f" 2>&1
done | grep -E 'warning:.*-Wanalyzer' | sort -u >"$out/analyzer"

explained=(
    'data/part.c:.*expected.*legacyUninitvar'         # filled by part_name where it succeeds; the other side is not reached
    'data/read_nifti.c:.*raw.*uninitdata'             # memory that the reader fills before it looks at it
    'kernels/cpu/.*invalidPointerCast'                # workspaces carved out of floats, and vectors over them: meant so
)
cat "$out"/cppcheck "$out"/clang-tidy "$out"/analyzer | grep -vE "$(IFS='|'; echo "${explained[*]}")"
[ $? -eq 1 ]
