#!/usr/bin/env bash
# A relocatable folder of covpipe for a bare machine with a GPU driver: program, plugin, the libraries they need, weights, tests.
#   scripts/bundle.sh [BUILD [OUT.tar.gz]]     default: build, covpipe-bundle.tar.gz beside it
# In the bundle: ./covpipe ...      the program, with one rank; no mpirun, no packages
#                ./test-gpu.sh      every op, networks, the CRF and the main job on the GPU against the CPU; prints why where it fails
# glibc comes along, for the bundle's programs alone. CUDA, cuDNN and NCCL are looked for in $CUDA_LIBS (colon-separated folders), in Python
# wheels (nvidia/*/lib), in CUDA's own folder and where the loader looks. Set COVPIPE_CUDA_LIBS=none to look for none.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$here/build}" && pwd)
out=${2:-$build/covpipe-bundle.tar.gz}
stage=$build/bundle/covpipe
rm -rf "$build/bundle"
mkdir -p "$stage"/{bin,lib/covpipe,share,scripts,tests/gpu}

cp "$build/covpipe" "$stage/bin/"
cp -r "$here"/share "$stage/share/covpipe"
[ -e "$build/covpipe-cuda.so" ] && cp "$build/covpipe-cuda.so" "$stage/lib/covpipe/"
for t in "$build"/tests/gpu/gpu_*; do [ -f "$t" ] && [ -x "$t" ] && cp "$t" "$stage/tests/gpu/"; done
cp "$here"/tests/lib.sh "$stage/tests/"
cp "$here"/tests/gpu/*.sh "$here"/tests/gpu/*.py "$here"/tests/gpu/*.json "$stage/tests/gpu/"
mkdir -p "$stage/tests/gpu/peers"
cp "$here"/tests/gpu/peers/*.py "$stage/tests/gpu/peers/"
install -m 644 "$here"/scripts/bench_peers.py "$stage/scripts/" # tests/gpu/peers takes a network from it; ldd below is for executables
cp "$here"/LICENSE "$stage/"

# Open MPI finds its plugins under OPAL_PREFIX; those that need libraries of their own (fabrics) are left out.
names() { ldd "$1" 2>/dev/null | awk '{ print $1 }' | sed 's|.*/||' | sort -u; }
mpi=$(dirname "$(readlink -f "$(ldd "$build/covpipe" | awk '/libmpi\.so/ { print $3 }')")")
plugins=$(dirname "$(find "$mpi" -name mca_ess_singleton.so -print -quit)")
mkdir -p "$stage/lib/openmpi"
for p in "$plugins"/mca_*.so; do
    [ -n "$(comm -23 <(names "$p") <(names "$build/covpipe"))" ] || cp "$p" "$stage/lib/openmpi/"
done
mkdir -p "$stage/share/openmpi"
cp /usr/share/openmpi/*.txt "$stage/share/openmpi/" 2>/dev/null || true

# Every library, glibc and its loader too, but none of CUDA's.
cuda='^lib(cuda|cudart|cudnn.*|nccl|cublas.*|nvrtc.*)\.so'
find "$stage" -type f \( -name '*.so' -o -perm -100 \) -print0 | xargs -0 -n1 ldd 2>/dev/null | awk '$2 == "=>" && $3 ~ "^/" { print $1, $3 }' | sort -u |
    while read -r name path; do [[ $name =~ $cuda ]] || cp -L "$path" "$stage/lib/$name"; done
cp -L /lib64/ld-linux-x86-64.so.2 "$stage/lib/"
for name in libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1; do # CUDA's own libraries ask for these
    [ -e "$stage/lib/$name" ] || cp -L "$mpi/../$name" "$stage/lib/" 2>/dev/null || cp -L "/lib/x86_64-linux-gnu/$name" "$stage/lib/"
done
find "$stage/bin" "$stage/lib" "$stage/tests" -type f ! -name '*.sh' ! -name '*.py' ! -name '*.json' ! -name '*.txt' ! -name 'ld-linux*' -exec strip --strip-unneeded {} + 2>/dev/null || true

cat > "$stage/covpipe.env" <<'ENV'
# Sourced by the starters: where the bundle's libraries are, and CUDA's.
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=$bundle/lib
if [ "${COVPIPE_CUDA_LIBS:-}" != none ]; then
    libs=$libs${CUDA_LIBS:+:$CUDA_LIBS}
    for python in python3 python; do
        command -v "$python" > /dev/null || continue
        for site in $("$python" -c 'import sys; print("\n".join(p for p in sys.path if "packages" in p))' 2>/dev/null); do
            for dir in "$site"/nvidia/*/lib; do [ -d "$dir" ] && libs=$libs:$dir; done
        done
    done
    for dir in /usr/local/cuda*/lib64 /usr/local/cuda*/lib; do [ -d "$dir" ] && libs=$libs:$dir; done
fi
export OPAL_PREFIX=$bundle OMPI_MCA_mca_base_component_path=$bundle/lib/openmpi OMPI_MCA_ess_singleton_isolated=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000} # as jobs/main.c, which cannot do it where a loader runs it
export COVPIPE_SHARE=$bundle/share/covpipe COVPIPE_PLUGINS=$bundle/lib/covpipe
# The bundle's own loader and glibc, for its programs alone.
run() { "$bundle/lib/ld-linux-x86-64.so.2" --library-path "$libs" "$@"; }
ENV
cat > "$stage/covpipe" <<'RUN'
#!/usr/bin/env bash
. "$(dirname "$(readlink -f "$0")")/covpipe.env"
exec "$bundle/lib/ld-linux-x86-64.so.2" --library-path "$libs" "$bundle/bin/covpipe" "$@"
RUN
cat > "$stage/test-gpu.sh" <<'RUN'
#!/usr/bin/env bash
# Everything that a GPU can show, in one command: test-gpu.sh [FOLDER for logs]. Exit code 1 if a claim fails, 77 without a GPU.
set -u
. "$(dirname "$(readlink -f "$0")")/covpipe.env"
logs=$(mkdir -p "${1:-gpu-logs}" && cd "${1:-gpu-logs}" && pwd)
failed=0 ran=0
nvidia-smi > "$logs/nvidia-smi.txt" 2>&1
"$bundle/covpipe" doctor --device cuda | tee "$logs/doctor.txt"
loader=("$bundle/lib/ld-linux-x86-64.so.2" --library-path "$libs")
one() { # NAME COMMAND...
    local name=$1 code=0; shift
    timeout 600 "$@" > "$logs/$name.txt" 2>&1 || code=$?
    case $code in
    0) echo "passed   $name"; ran=$((ran + 1)) ;;
    77) echo "skipped  $name: $(grep -m1 -E 'skipped|no GPU' "$logs/$name.txt")" ;;
    *) echo "FAILED   $name (exit code $code)"; grep -E 'FAIL|ERROR|error|cuda|cudnn' "$logs/$name.txt" | head -20; failed=$((failed + 1)) ;;
    esac
}
for t in "$bundle"/tests/gpu/gpu_kernels_*; do one "$(basename "$t")" "${loader[@]}" "$t"; done
if [ -e "$bundle/tests/gpu/gpu_engines" ]; then one gpu_engines "${loader[@]}" "$bundle/tests/gpu/gpu_engines" "$bundle/tests/gpu/h100.json"; fi
export COVPIPE=$bundle/covpipe COVPIPE_SOURCE=$bundle SCRATCH=$logs/screen
one gpu_screen env SIZE=160 SLICES=28 STUDIES=2 bash "$bundle/tests/gpu/screen.sh"
for model in st maskrcnn unet; do
    one gpu_screen_$model env SCRATCH="$logs/$model" LESIONS=$model SIZE=160 SLICES=12 STUDIES=1 bash "$bundle/tests/gpu/screen.sh"
done
if command -v compute-sanitizer > /dev/null; then
    # Calls that fail are not the checkers' business: tests provoke some (memory that there is not), and every status is read.
    for tool in memcheck racecheck; do
        for t in vectors planes boxes regions net net_compile net_host net_record net_pieces crf; do
            one "${tool}_$t" compute-sanitizer --tool $tool --report-api-errors no --error-exitcode 1 "${loader[@]}" "$bundle/tests/gpu/gpu_kernels_$t"
        done
    done
fi
if [ $ran -gt 1 ]; then one bench "$bundle/covpipe" bench --device cuda --training --json "$logs/bench.json" && cat "$logs/bench.txt"; fi
echo "$ran passed, $failed failed; logs in $logs"
[ $failed -eq 0 ] || exit 1
[ $ran -gt 1 ] || exit 77
RUN
chmod +x "$stage/covpipe" "$stage/test-gpu.sh"
tar -C "$build/bundle" -czf "$out" covpipe
mib=$(($(stat -c %s "$out") / 1048576))
echo "$out: $mib MiB"
[ $mib -le 60 ] || { echo "larger than 60 MiB" >&2; exit 1; }
