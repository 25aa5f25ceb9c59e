# Claims: whichever call of covpipe fails first (malloc, open, read, write, fsync, rename, a message, HDF5, MPI ...), the run ends in
# time, by itself and with the exit code that is true, and the same command then ends with the bytes of an undisturbed run.
# The same of kills, stops, a full disk, foreign and damaged parts, a changing archive: one of each.
# Every third call site of malloc and HDF5; scripts/torture.sh takes all of them, with more errors and more calls of each.
source "$COVPIPE_SOURCE/tests/lib.sh"
/usr/bin/python3 "$tests/fault/torture.py" --covpipe "$COVPIPE" --shim "$FAULT_SHIM" --scratch "$SCRATCH/t" --stride 3 ||
    fail "not every fault was survived"
