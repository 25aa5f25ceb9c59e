#!/usr/bin/env bash
# sanitize.sh SANITIZERS FOLDER TARGET TESTS [BUT]: builds TARGET with them in FOLDER and runs the tests that match; any report is a failure.
# Readers have no sandbox in such a build (tests/tools/no_sandbox.c), and libraries stay loaded (tests/tools/keep_loaded.c).
set -euo pipefail
cd "$(dirname "$0")/.."
cmake -S . -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -g" -DCOVPIPE_SANITIZE="$1" >/dev/null
cmake --build "$2" --target "$3"
ln -sfn "$PWD/share" "$2/share" # where the program looks beside itself: this build is not one folder below the source
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
       TSAN_OPTIONS="allocator_may_return_null=1 halt_on_error=1 second_deadlock_stack=1 ignore_noninstrumented_modules=1" LSAN_OPTIONS="suppressions=$PWD/tests/tools/lsan.supp:print_suppressions=0"
ctest --test-dir "$2" --no-tests=error --output-on-failure -j "$(nproc)" -R "$4" ${5:+-E "$5"}
