#!/bin/bash
# Layers: base < {kernels, data} < {stages, mpi} < jobs, and siblings never include one another. A vendor's header is
# read in one place. This reads every include (and every header named by a #define, which may be included by its name)
# and fails on one that is not allowed. It then proves, on a small tree of bad files, that it can fail.
set -u
: "${COVPIPE_SOURCE:?the source folder}" "${SCRATCH:?a scratch folder}"

# check ROOT: prints "file:line: why" for each include that breaks a rule; true if there is none.
check() {
    (cd "$1" && find base kernels data stages mpi jobs -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) \
        -exec awk '
        function bad(why) { printf "%s:%d: %s\n", FILENAME, FNR, why }

        # Our own header: may a file of this folder see it?
        function ours(header,    from, to, sub_from, sub_to) {
            if (header !~ /^(base|kernels|data|stages|mpi|jobs)\//) { bad("\"" header "\": name headers from the root"); return }
            from = FILENAME; sub("/.*", "", from); to = header; sub("/.*", "", to)
            if (index(may[from], " " to " ") == 0) { bad(from "/ must not include " header); return }
            if (from == "mpi" && to == "kernels" && header !~ /^kernels\/(tensor|backend)\.h$/)
                bad("mpi/ sees of kernels/ only tensor and backend, not " header)
            if (from == "mpi" && to == "data" && header !~ /^data\/(unit|part|cohort|study|volume|reason)\.h$/)
                bad("mpi/ sees of data/ only unit, part, cohort, study, volume and reason, not " header)
            if (to != "kernels") return
            sub_to = header ~ /^kernels\/[^\/]*\// ? header : ""; sub(/^kernels\//, "", sub_to); sub("/.*", "", sub_to)
            sub_from = FILENAME ~ /^kernels\/[^\/]*\// ? FILENAME : ""; sub(/^kernels\//, "", sub_from); sub("/.*", "", sub_from)
            if (sub_to != "" && sub_to != sub_from) bad("only kernels/" sub_to "/ may include " header)
        }

        # Somebody else'"'"'s header: a known one, in its place?
        function theirs(header,    k) {
            for (k = 1; k <= places; k++)
                if (header ~ what[k]) {
                    if (FILENAME !~ where[k]) bad("<" header "> belongs in " where[k])
                    return
                }
            if (header !~ common) bad("<" header "> is of no known library: give it its one place in this test")
        }
        function place(pattern, folder) { places++; what[places] = pattern; where[places] = folder }

        BEGIN {
            may["base"] = " base "
            may["kernels"] = " base kernels "
            may["data"] = " base data "
            may["stages"] = " base kernels data stages "
            may["mpi"] = " base kernels data mpi "
            may["jobs"] = " base kernels data stages mpi jobs "
            place("^(hdf5|H5[A-Za-z]*|hdf5_hl)\\.h$", "^data/")
            place("^(nifti/)?(nifti[0-9]?_io|nifti2|nifti1|nifti2_io|znzlib)\\.h$", "^data/")
            place("^zlib\\.h$", "^data/")
            place("^png\\.h$", "^(data/|stages/draw\\.c$)")
            place("^(oneapi/|dnnl)", "^kernels/cpu/")
            place("(intrin|^cpuid)\\.h$", "^kernels/cpu/")
            place("^(cuda|cudnn|cublas|curand|cooperative_groups|nvtx|nvToolsExt|nccl|mma|cub/|thrust/)", "^kernels/cuda/")
            place("^mpi\\.h$", "^(mpi/|data/cohort\\.[ch]$)")
            place("^openssl/", "^base/sha256\\.c$")
            place("^omp\\.h$", "^(kernels|stages)/")
            common = "^((assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdalign|" \
                     "stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|threads|time|wchar|wctype|" \
                     "dirent|dlfcn|fcntl|fnmatch|ftw|getopt|glob|grp|libgen|netdb|poll|pthread|pwd|regex|sched|semaphore|" \
                     "spawn|strings|syslog|termios|unistd|alloca|endian|execinfo|malloc|link)\\.h|(sys|linux|arpa|netinet|net)/.*\\.h)$"
        }
        /^[ \t]*#[ \t]*(include|define)/ {
            directive = $0
            if (directive ~ /^[ \t]*#[ \t]*define/ && directive !~ /[ \t]["<][^">]*\.h[">]/) next
            if (match(directive, /"[^"]*"/)) ours(substr(directive, RSTART + 1, RLENGTH - 2))
            else if (match(directive, /<[^>]*>/)) theirs(substr(directive, RSTART + 1, RLENGTH - 2))
        }' {} +) > "$SCRATCH/found"
    sort "$SCRATCH/found"
    test ! -s "$SCRATCH/found"
}

rm -rf "$SCRATCH"
mkdir -p "$SCRATCH"
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

check "$COVPIPE_SOURCE" || fail "includes above break the layers"

# ---- it can fail: each line is a file, a directive that must be refused, and what the reason must say
tree="$SCRATCH/tree"
bad_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"/{base,kernels/{ref,cpu,cuda},data,stages,mpi,jobs}
}
refused=0
must_refuse() { # file, directive, reason
    refused=$((refused + 1))
    bad_tree
    printf '/* one file */\n%s\n' "$2" > "$tree/$1"
    local said
    if said=$(check "$tree"); then fail "accepted in $1: $2"
    elif [[ $said != "$1:2: "*"$3"* ]]; then fail "for '$2' in $1 it said: $said"; fi
}
must_accept() { # file, directive
    bad_tree
    printf '%s\n' "$2" > "$tree/$1"
    local said
    said=$(check "$tree") || fail "refused in $1: $2: $said"
}

must_refuse base/a.c '#include "kernels/op.h"' 'base/ must not include'             # upward
must_refuse base/a.h '#include "jobs/jobs.h"' 'base/ must not include'
must_refuse kernels/a.c '#include "data/volume.h"' 'kernels/ must not include'      # sideways
must_refuse data/a.c '#include "kernels/tensor.h"' 'data/ must not include'
must_refuse stages/a.c '#include "mpi/world.h"' 'stages/ must not include'
must_refuse mpi/a.c '#include "stages/pipeline.h"' 'mpi/ must not include'
must_refuse data/a.c '#  include "stages/lung.h"' 'data/ must not include'          # spaces after the hash
must_refuse kernels/cuda/a.cu '#include "stages/lung.h"' 'kernels/ must not include'
must_refuse mpi/a.c '#include "kernels/net.h"' 'only tensor and backend'
must_refuse mpi/a.c '#include "data/nifti.h"' 'only unit, part'
must_refuse kernels/net.c '#include "kernels/cpu/cpu.h"' 'only kernels/cpu/'
must_refuse kernels/cpu/a.c '#include "kernels/ref/ref.h"' 'only kernels/ref/'
must_refuse stages/a.c '#include "kernels/cpu/cpu.h"' 'only kernels/cpu/'
must_refuse kernels/cpu/a.c '#include "cpu.h"' 'from the root'
must_refuse stages/a.c '#include "../mpi/world.h"' 'from the root'
must_refuse kernels/a.c '#define BODY "data/volume.h"' 'kernels/ must not include'  # included by its name
must_refuse stages/a.c '#include <hdf5.h>' 'belongs in'
must_refuse jobs/a.c '#include <H5Dpublic.h>' 'belongs in'
must_refuse mpi/a.c '#include <nifti2_io.h>' 'belongs in'
must_refuse stages/a.c '#include <png.h>' 'belongs in'
must_refuse kernels/ref/a.c '#include <oneapi/dnnl/dnnl.h>' 'belongs in'
must_refuse kernels/cpu/a.c '#include <cuda_runtime.h>' 'belongs in'
must_refuse stages/a.c '#include <cudnn.h>' 'belongs in'
must_refuse mpi/a.c '#include <nccl.h>' 'belongs in'
must_refuse jobs/a.c '#include <mpi.h>' 'belongs in'
must_refuse data/part.c '#include <mpi.h>' 'belongs in'
must_refuse data/a.c '#include <openssl/evp.h>' 'belongs in'
must_refuse base/a.c '#include <openssl/sha.h>' 'belongs in'
must_refuse kernels/a.c '#include <immintrin.h>' 'belongs in'
must_refuse base/a.c '#include <curl/curl.h>' 'no known library'

must_accept jobs/a.c '#include "stages/lung.h"'
must_accept stages/a.c '#include "kernels/net.h"'
must_accept mpi/a.c '#include "kernels/backend.h"'
must_accept kernels/cpu/a.c '#include "kernels/cpu/cpu.h"'
must_accept stages/draw.c '#include <png.h>'
must_accept data/cohort.h '#include <mpi.h>'
must_accept kernels/cuda/a.cu '#include <cuda_runtime.h>'
must_accept base/sha256.c '#include <openssl/evp.h>'
must_accept base/a.c '/* #include "jobs/jobs.h" */'

test "$failures" = 0 && echo "every include keeps the layers, and $refused bad ones were refused"
