#!/usr/bin/env bash
# Everything that check.sh has no time for; hours on two cores. Prints a line a step and ends with 1 if one failed.
#   scripts/full-check.sh [clang|static|asan|tsan|valgrind|fuzz|afl|torture ...]    (all of them, without words)
#   clang     builds without a warning, and passes the unit tests
#   static    scripts/static-check.sh: cppcheck, clang-tidy, gcc -fanalyzer
#   asan      ASan and UBSan: all unit, fuzz, MPI and command line tests, and end to end phantoms, ranks and the hostile archive
#   tsan      ThreadSanitizer, clang's: all unit and op tests
#   valgrind  memcheck over the unit tests of base, data and mpi
#   fuzz      libFuzzer, MINUTES (10) a target (TARGETS), from the committed corpora; afl: AFL++ likewise, for cases, nifti and png
#   torture   scripts/torture.sh for MINUTES * 6
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-10} out=${OUT:-build/full} bad=0
mkdir -p "$out/found"
bash scripts/packages.sh full
read -ra targets <<<"${TARGETS:-cases cohort nifti part png weights}"
export OMP_NUM_THREADS=2

step() { # step NAME COMMAND...: its output goes to a file
    local name=$1 start=$SECONDS; shift
    if "$@" >"$out/$name.log" 2>&1; then echo "passed   $name  ($((SECONDS - start)) s)"
    else echo "FAILED   $name  ($((SECONDS - start)) s): $out/$name.log"; bad=1; fi
}
clang_build() {
    cmake -S . -B "$out/clang" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS=-Werror &&
        cmake --build "$out/clang" && ctest --test-dir "$out/clang" --no-tests=error --output-on-failure -j "$(nproc)" -L 'unit|fuzz'
}
asan() { bash scripts/sanitize.sh address,undefined "$out/asan" all '^(unit_|fuzz_|mpi_|cli_|e2e_(phantoms|ranks|hostile))' unit_mpi_sandbox; }
# By clang, whose OpenMP tells ThreadSanitizer what its barriers order; gcc's does not, and every parallel loop would look like a race.
# Not unit_mpi_endings, which counts seconds of whole jobs.
tsan() { CC=clang bash scripts/sanitize.sh thread "$out/tsan" all '^(unit_|ops_)' unit_mpi_endings; }
valgrind_units() {
    local test failed=0
    cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo && cmake --build build || return 1
    for test in build/tests/unit_base_* build/tests/unit_data_* build/tests/unit_mpi_protocol; do
        [[ $test == */unit_data_study ]] && continue # forks hundreds of processes
        COVPIPE_SOURCE=$PWD valgrind -q --error-exitcode=9 --suppressions=tests/tools/valgrind.supp "$test" || [ $? -eq 77 ] || { echo "FAILED: $test"; failed=1; }
    done
    return $failed
}
fuzz_build() { # fuzz_build FOLDER COMPILER
    cmake -S . -B "$out/$1" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER="$2" -DCOVPIPE_FUZZ=ON &&
        cmake --build "$out/$1" --target "${targets[@]/#/fuzz_}"
}
# Parts are signed before HDF5 sees them; weights and cohorts are not, and what is found inside libhdf5 there is listed, not counted.
fuzz_one() {
    local t=$1 most=4096 other=()
    case $t in part | cohort | weights) most=200000 ;; esac
    case $t in cohort | weights) other=(-fork=1 -ignore_crashes=1 -ignore_ooms=1 -ignore_timeouts=1) ;; esac
    mkdir -p "$out/found/$t"
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 "$out/fuzz/tests/fuzz/fuzz_$t" -max_total_time=$((60 * minutes)) -max_len=$most \
        -rss_limit_mb=4000 -print_final_stats=1 -artifact_prefix="$out/found/$t-" "${other[@]}" "$out/found/$t" "tests/fuzz/corpus/$t" ||
        [ ${#other[@]} -gt 0 ] || return 1 # with -fork it ends with 1 after a crash that it was to ignore
    local crash ours=0
    for crash in "$out/found/$t"-crash-*; do
        [ -e "$crash" ] || continue
        ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 "$out/fuzz/tests/fuzz/fuzz_$t" "$crash" >"$crash.txt" 2>&1
        if grep -E '^    #[0-9]+ ' "$crash.txt" | grep -v -E '__interceptor_|__asan|__sanitizer|raise|abort|in (__)?(mem|str)[a-z]+[_ ]' | head -1 | grep -q libhdf5; then
            echo "inside libhdf5: $crash"
        else echo "ours: $crash"; ours=1; fi
    done
    return $ours
}
afl_one() {
    local t=$1
    AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 afl-fuzz -V $((60 * minutes)) -m none -t 5000 \
        -i "tests/fuzz/corpus/$t" -o "$out/found/afl-$t" -- "$out/afl/tests/fuzz/fuzz_$t" || return 1
    [ -z "$(find "$out/found/afl-$t" -path '*crashes*' -name 'id:*' | head -1)" ]
}

for what in "${@:-clang static asan tsan valgrind fuzz afl torture}"; do
    for one in $what; do
        case $one in
        clang) step clang clang_build ;;
        static) step static bash scripts/static-check.sh ;;
        asan | tsan) step "$one" "$one" ;;
        valgrind) step valgrind valgrind_units ;;
        fuzz) step fuzz-build fuzz_build fuzz clang; for t in "${targets[@]}"; do step "fuzz-$t" fuzz_one "$t"; done ;;
        afl) step afl-build fuzz_build afl afl-clang-fast; for t in cases nifti png; do step "afl-$t" afl_one "$t"; done ;;
        torture) step torture bash scripts/torture.sh --minutes $((6 * minutes)) ;;
        *) echo "$one: expected clang, static, asan, tsan, valgrind, fuzz, afl or torture"; exit 2 ;;
        esac
    done
done
exit $bad
