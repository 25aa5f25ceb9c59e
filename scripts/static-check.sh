#!/usr/bin/env bash
# Static analysis of base, data, mpi, stages, kernels and jobs: cppcheck, clang-tidy (its bug finders), gcc -fanalyzer. Some
# minutes; needs cppcheck and clang-tidy, and a build folder that CMake has configured. Prints findings; exit code 1 if there is one that
# docs/RELIABILITY.md does not explain (the list below).
#   scripts/static-check.sh [BUILD=build] [FOLDER...]
set -uo pipefail
export LC_ALL=C # plain quotes in messages, so that the patterns below fit
cd "$(dirname "$0")/.."
build=${1:-build}; [ $# -eq 0 ] || shift

folders=("$@"); [ $# -gt 0 ] || folders=(base data mpi stages kernels jobs)
out=$build/static; mkdir -p "$out"
for tool in cppcheck clang-tidy gcc; do command -v $tool >/dev/null || { echo "no $tool"; exit 77; }; done
mapfile -t sources < <(find "${folders[@]}" -name '*.c' ! -path '*/cuda/*' | sort)
[ -s "$build/compile_commands.json" ] || cmake -S . -B "$build" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null

cppcheck -q --enable=warning,performance,portability --std=c11 --suppress=missingIncludeSystem --suppress=internalAstError -I . \
         -D_GNU_SOURCE -DMPI_TAKES_PMI2=0 '-DCOVPIPE_VERSION="0"' --template='{file}:{line}: {message} [{id}]' "${sources[@]}" 2>"$out/cppcheck"
# Whole checks that are off say nothing true here:
# - bugprone: swappable parameters, narrowing and widening of numbers, macros and names are matters of style, or gcc's own to warn of;
#   signed-char-misuse takes every int8_t for text, but here it holds small numbers (axes, flips, steps)
# - security.insecureAPI wants C11's Annex K (memcpy_s), which glibc has not
# - valist.Uninitialized: clang 14 does not see va_start, so every variadic function is a finding
# - optin.portability.UnixAPI: malloc(0) is no NULL in glibc, and sizes come from files that were checked to hold something
off=bugprone-easily-swappable-parameters,bugprone-narrowing-conversions,bugprone-implicit-widening-of-multiplication-result
off+=,bugprone-macro-parentheses,bugprone-reserved-identifier,bugprone-signed-char-misuse
off+=,clang-analyzer-security.insecureAPI.*,clang-analyzer-valist.Uninitialized,clang-analyzer-optin.portability.UnixAPI
clang-tidy -p "$build" --quiet --checks="-*,bugprone-*,clang-analyzer-*,-${off//,/,-}" \
           "${sources[@]}" 2>/dev/null | grep -E '(warning|error):' | sort -u >"$out/clang-tidy"
# malloc-leak is off: gcc 12 loses memory that is stored through a pointer (list->names[n] = strdup(...)) and freed by another function;
# leaks are looked for by clang above and by LeakSanitizer in all tests (scripts/full-check.sh asan).
includes=$(pkg-config --cflags-only-I hdf5-openmpi ompi-c 2>/dev/null)
for f in "${sources[@]}"; do # shellcheck disable=SC2086
    gcc -std=gnu11 -O1 -fanalyzer -Wno-analyzer-malloc-leak -c -o /dev/null -I . $includes -I /usr/include/nifti -fopenmp -D_GNU_SOURCE -DMPI_TAKES_PMI2=0 '-DCOVPIPE_VERSION="0"' "$f" 2>&1
done | grep -E 'error:|warning:.*-Wanalyzer' | sort -u >"$out/analyzer"

explained=(
    # cppcheck
    'data/part.c:.*expected.*legacyUninitvar'                  # filled by part_name where it succeeds; the other side is not reached
    'data/read_nifti.c:.*raw.*uninitdata'                      # memory that the reader fills before it looks at it
    'kernels/box.c:.*uninitialized variable t .ctuuninitvar'   # tile_put fills the places that tile_iou is asked for
    'kernels/cpu/.*invalidPointerCast'                         # workspaces carved out of floats, and vectors over them: meant so
    'kernels/cpu/roialign_body.h:.*variable: line .uninitvar'  # the loop above fills every slot that slot[] names
    'kernels/ref/loss.c:.*Invalid log'                         # the sum is at least 1: its largest term is exp(0)
    # clang-tidy
    'sizeof.A\*.*bugprone-sizeof-expression'                   # arrays of pointers, for sorting: their elements are pointers
    'data/cohort_masks.c:.*(null pointer|NULL)'                # make_room made what the counts beside it say; rank 0, which alone writes, has opened its targets
    "data/cohort_write.c:.*'(starts|counts)'.*null pointer"    # cohort_agree returns a failure of one rank on all
    'jobs/montage.c:.*Division by zero'                        # at least one tile: the readers refuse an image without slices
    'kernels/cpu/crf.c:.*[Nn]ull pointer'                      # work_new fills the work of every thread, and there is one at least
    'kernels/cpu/dnn.c:.*2nd function call argument'           # a pointer for each argument that the primitive was made with
    'kernels/cpu/wgrad_amx.c:.*Division by zero'               # a tile of inputs and one of outputs at least
    "kernels/net_build.c:.*leak of memory pointed to by 'v\.(step|name)'" # the graph's list of nodes owns them where the step was added
    'kernels/regions.c:.*null pointer'                         # a pixel has a label only where number() counted a region
    'kernels/net_host.c:.*(uninitialized|nonnull)'             # lay() fills x and y, and the desk was made for them (gcc says so too)
    "kernels/ref/run.c:.*left operand of '>' is a garbage"     # view() copies y as it was given; clang skips that loop
    'mpi/world.c:.*no matching wait'                           # test_sends tests it until it is done
    'stages/finding.c:.*garbage value due to array'            # the loop of unpack_one fills the mask; clang runs it once, this loop twice
    "stages/lesioneval.c:.*left operand of '>=' is a garbage"  # lesioneval_scores fills the slice; clang skips its loop
    'stages/lesionmetrics.c:.*(nonnull|non-null)'              # grow() made room, as one more is never less than none (gcc says so too)
    'stages/lungpost.c:.*(garbage|null pointer)'               # loops over rows fill row[] and from[], and new_rows and label make all that a row's runs count; clang skips them
    'stages/sampler.c:.*Branch condition .* garbage'           # the copy of the lung is filled whole; clang runs that loop once
    'stages/tripletaug.c:.*Assigned value is garbage'          # resample() fills planes and roi; clang skips its loop
    # gcc -fanalyzer
    'kernels/cpu/(crf_rows|vec)_body.h:.*shift-count-overflow' # a shift of a vector's lanes, taken for one of the index
    "kernels/cpu/vec.h:.*dereference of NULL '0'"              # a norm's x is always there; norm_at also serves gradients that may not be
    'kernels/cpu/wino_body.h:.*use-of-uninitialized'           # loops of six rounds fill d, m and part; gcc gives up before
    "data/cases.c:.*uninitialized value '(v\[|\*_)"            # a loop over all columns fills v, names[j] is below count; likewise
    '(stages/rcnn_steps.c|cc1):.*uninitialized value'          # lists of anchors and regions are filled up to the counts that are kept beside them
)
cat "$out"/cppcheck "$out"/clang-tidy "$out"/analyzer | grep -vE "$(IFS='|'; echo "${explained[*]}")"
[ $? -eq 1 ]
