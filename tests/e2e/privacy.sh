# Claims: what headers say in words (NIfTI-1 and -2 fields and extensions, texts of PNG, DICOM), in sound files and in damaged ones, is in
# nothing that the program leaves or prints: cohort, parts, tables, masks, pictures, logs; and no process of its own but MPI opens a socket
# of the internet.
source "$COVPIPE_SOURCE/tests/lib.sh"
mark=ZqKXdoe
small=(--model none --axial-only --no-crf --precision fp32 --threads 1)
expect 0 "$COVPIPE" phantom --out p --studies 1 --seed 9 --size 32 --slices 4 --quiet
mkdir left
/usr/bin/python3 "$tests/privacy_archive.py" p/archive/site-a/phantom001/ct.nii.gz archive || fail "the archive could not be made"
grep -rqa "$mark" archive || fail "no secret in the archive"
said() { local name=$1; shift; expect "$@"; mv out "left/$name.txt"; } # what a command printed is searched like any file
said run 3 "$COVPIPE" --archive archive --out left/c.h5 --log-json "${small[@]}"
grep -q '"event":"study"' left/run.txt || fail "no JSON lines"
[ "$(wc -l <left/c-failures.csv)" -ge 9 ] || { cat left/c-failures.csv; fail "the failures CSV should list the damaged files"; }
said plain 3 "$COVPIPE" --archive archive --out left/plain.h5 "${small[@]}"
said table 0 "$COVPIPE" inspect left/c.h5
said csv 0 "$COVPIPE" inspect left/c.h5 --csv
said study 0 "$COVPIPE" inspect left/c.h5 --study one.nii
said status 0 "$COVPIPE" status left/c.h5
said export 0 "$COVPIPE" export left/c.h5 --out left/masks
said montage 0 "$COVPIPE" montage left/c.h5 --out left/pictures
said dry 0 "$COVPIPE" --archive archive --out left/dry.h5 --dry-run "${small[@]}"
for name in one.nii two.nii packed__one packed__two pair__p.hdr; do
    [ -s "left/masks/${name}_lung.nii.gz" ] || { ls left/masks; fail "no mask of $name"; }
done
grep -q "UNSUPPORTED" left/table.txt || fail "the DICOM is not accounted for"
/usr/bin/python3 "$tests/find_secrets.py" "$mark" left || fail "a header's text got out"
# Nor what is too short to be looked for in compressed bytes: the first four letters, as such or as a number.
grep -E "ZqKX|$(printf %s "${mark:0:4}" | od -An -td4 | tr -d ' ')" left/*.txt left/*.csv && fail "four letters of a header were printed"

if ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
    echo "sockets: not looked at, for there is no strace here (scripts/packages.sh tests) or it may not trace"
    exit 0
fi
# MPI and its hwloc, which looks for X servers, are told to stay at home; the list of interfaces that MPI asks for is the one socket left.
expect 3 env OMPI_MCA_btl=self OMPI_MCA_oob=^tcp HWLOC_COMPONENTS=-gl strace -f -qq -o trace \
    -e trace=socket,socketpair,connect,bind,sendto,sendmsg,prctl -e signal=none "$COVPIPE" --archive archive --out traced.h5 "${small[@]}"
for who in covpipe-reader covpipe-worker; do grep -q "$who" trace || fail "the trace has no $who"; done
grep -q "socketpair(AF_UNIX" trace || fail "the trace has no sockets at all"
shell=$(head -1 trace | cut -d' ' -f1)
grep -E "AF_(INET|PACKET|NETLINK)" trace | grep -v "^$shell  *socket(AF_INET, SOCK_DGRAM" && fail "a socket of a network"
exit 0
