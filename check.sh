#!/usr/bin/env bash
# Installs what is needed, builds everything and runs all tests, and those of base/ and data/ once more with ASan and UBSan. May be run
# again; then only what changed is built. Words are handed to ctest; then the sanitizers are left out.
set -euo pipefail
cd "$(dirname "$0")"
bash scripts/packages.sh tests
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build
ctest --test-dir build --no-tests=error --output-on-failure -j "$(nproc)" "$@"
[ $# -eq 0 ] || exit 0
bash scripts/sanitize.sh address,undefined build/asan sanitized_tests '^(unit_(base|data)_|fuzz_)' unit_data_study # which forks hundreds of processes
