#!/usr/bin/env bash
# Installs what is needed, builds everything and runs all tests. May be run again; then only what changed is built.
set -euo pipefail
cd "$(dirname "$0")"
bash scripts/packages.sh tests
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build
ctest --test-dir build --no-tests=error --output-on-failure -j "$(nproc)" "$@"
