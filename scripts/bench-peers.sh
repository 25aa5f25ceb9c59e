#!/usr/bin/env bash
# Ours and the peers' on the same networks, in alternation, on this machine: quote the ratio of medians, not the seconds.
# In bf16 and, of the first network, in fp32; all in fp32 where the processor has no bf16. Mask R-CNN beside torchvision's: tests/gpu/peers/peers.py --device cpu.
#   scripts/bench-peers.sh PYTHON [ROUNDS]      PYTHON: an interpreter with the packages named in bench_peers.py
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1 rounds=${2:-2} covpipe=${COVPIPE:-$here/../build/covpipe} threads=${THREADS:-2}
# glibc keeps freed memory: without it torch spends its time in mmap
export OMP_NUM_THREADS=$threads MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=34359738368 MALLOC_TOP_PAD_=134217728
ours() { "$covpipe" bench "$1" --threads "$threads" --repeat 5 "${@:2}" | tail -n +2; }
peer() { "$python" "$here/bench_peers.py" "$1" --threads "$threads" --repeat 5; }
printf '%-26s %-8s %-5s %7s %6s %10s %10s\n' case what type threads batch median_s min_s
types=(fp32)
grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo && types=(bf16 fp32)
for _ in $(seq "$rounds"); do
    for type in "${types[@]}"; do ours gnunet --precision "$type"; peer "gnunet/torch_$type"; peer "gnunet/openvino_$type"; done
    ours trunk-resnet50 --precision "$types"; peer "trunk/torch_$types"; peer "trunk/openvino_$types"
    ours unet-resnet50 --precision "$types" --training; peer "unet/torch_$types"; peer "unet/openvino_$types"; peer "unet_training/torch_$types"
    ours crf --threads 1
done
