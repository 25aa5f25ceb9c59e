#!/usr/bin/env bash
# Installs what covpipe is built with on Debian 12 (root, or sudo). Quick when everything is there already.
# `packages.sh tests` installs a Slurm too, which tests/slurm start for themselves, and strace, by which tests/e2e/privacy.sh sees who opens
# sockets; where they cannot be had, these say skipped.
set -euo pipefail
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
need() {
    local p missing=()
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "installing: ${missing[*]}"
    as_root apt-get update -qq
    # RUNLEVEL=1: no service of these packages is to run on this machine
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
need gcc g++ cmake ninja-build openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libnifti2-dev libznz-dev zlib1g-dev \
     libpng-dev libdnnl-dev libssl-dev libcmocka-dev python3 python3-h5py
# `packages.sh full` installs what scripts/full-check.sh uses beyond that: clang with its sanitizers and libFuzzer, AFL++, valgrind, clang-tidy, cppcheck.
if [ "${1:-}" = full ]; then need clang libclang-rt-14-dev libomp-dev clang-tidy cppcheck afl++ valgrind; fi
if [ "${1:-}" = tests ]; then
    need hdf5-tools || echo "no h5dump: e2e_train and e2e_train_lesions will say skipped"
    need python3-pil python3-numpy || echo "no python3-pil: e2e_stack_slices will say skipped"
    need strace || echo "no strace: e2e_privacy will not look at sockets"
    need slurm-wlm slurm-wlm-basic-plugins munge || echo "no Slurm packages: its tests will say skipped"
fi
