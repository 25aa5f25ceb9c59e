#!/usr/bin/env bash
# Ours and the peers' on the same networks, in alternation, on this machine: quote the ratio of medians, not the seconds.
#   scripts/bench-peers.sh PYTHON [ROUNDS]      PYTHON: an interpreter with the packages named in bench_peers.py
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1 rounds=${2:-2} covpipe=${COVPIPE:-$here/../build/covpipe} threads=${THREADS:-2}
# glibc keeps freed memory: without it torch spends its time in mmap
export OMP_NUM_THREADS=$threads MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=34359738368 MALLOC_TOP_PAD_=134217728
ours() { "$covpipe" bench "$@" --threads "$threads" --repeat 5 | tail -n +2; }
peer() { "$python" "$here/bench_peers.py" "$1" --threads "$threads" --repeat 5; }
printf '%-26s %-8s %-5s %7s %6s %10s %10s\n' case what type threads batch median_s min_s
for _ in $(seq "$rounds"); do
    ours gnunet --precision bf16; peer gnunet/torch_bf16; peer gnunet/openvino_bf16
    ours gnunet --precision fp32; peer gnunet/torch_fp32
    ours unet-resnet50 --precision bf16 --training; peer unet/torch_bf16; peer unet/openvino_bf16; peer unet_training/torch_bf16
    ours crf --threads 1
done
