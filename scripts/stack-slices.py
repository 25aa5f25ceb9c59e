#!/usr/bin/env python3
"""Makes volumes of annotated slices that lie in order, so that the sagittal network and the lesion networks can learn from them.

    scripts/stack-slices.py CASES OUT ID [ID ...]     (needs Debian's python3-pil and python3-numpy)

CASES is a table as `covpipe train --cases` takes; the rows of kind `slice` whose id starts with an ID, sorted by id from the feet to the
head, become one case of kind `volume`, called ID-stack, below the folder OUT. OUT/cases.csv holds these rows and all others with full
paths; stacked slices are in it no longer if nothing else is said, and with --keep they are. 8-bit grey becomes HU by the lung window
(level -500, width 1600), as single slices do in training; the voxel is nominal (--voxel, mm: across, between slices). Whether slices lie in order
is yours to know: the script refuses a stack in which two neighbours differ more than twice as much as slices eight apart do.
"""
import argparse
import csv
import gzip
import os
import struct
import sys

import numpy as np
from PIL import Image

LEVEL, WIDTH = -500.0, 1600.0  # stages/window.c, window_lung
NIFTI = {np.dtype("i2"): 4, np.dtype("u1"): 2}


def read(rows, column):
    slices = [np.asarray(Image.open(row[column]).convert("L")) for row in rows]
    if len({s.shape for s in slices}) != 1:
        sys.exit(f"{rows[0][column]} ...: slices of different sizes are no stack")
    return np.stack(slices)


def check_order(name, grey):
    near = np.abs(np.diff(grey.astype(np.float32), axis=0)).mean((1, 2))
    far = np.abs(grey[8:].astype(np.float32) - grey[:-8]).mean()
    if near.max() > 2 * far:
        sys.exit(f"{name}: slice {near.argmax() + 2} is no neighbour of the one before (differs by {near.max():.1f}, slices eight apart by {far:.1f})")


def write(path, voxels, across, between):
    """[Z][Y][X], rows from front to back, columns from the patient's right to left, slices from feet to head, as NIfTI-1."""
    nz, ny, nx = voxels.shape
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, nx, ny, nz, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, NIFTI[voxels.dtype], 8 * voxels.dtype.itemsize)
    struct.pack_into("<8f", head, 76, 1, across, across, between, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    head[123] = 2  # mm
    struct.pack_into("<2h", head, 252, 0, 1)  # the sform holds
    struct.pack_into("<12f", head, 280, -across, 0, 0, 0, 0, -across, 0, 0, 0, 0, between, 0)
    head[344:348] = b"n+1\0"
    with gzip.open(path, "wb", 6) as f:
        f.write(head + voxels.tobytes())


def stack(name, rows, out, voxel):
    os.makedirs(f"{out}/{name}", exist_ok=True)
    grey = read(rows, "ct")
    check_order(name, grey)
    write(f"{out}/{name}/ct.nii.gz", np.rint(LEVEL - WIDTH / 2 + WIDTH * grey / 255.0).astype("<i2"), *voxel)
    for column in "lung", "lesion":
        write(f"{out}/{name}/{column}.nii.gz", (read(rows, column) > 0).astype("u1"), *voxel)
    return dict(rows[0], id=name + "-stack", kind="volume", **{c: os.path.abspath(f"{out}/{name}/{c}.nii.gz") for c in ("ct", "lung", "lesion")})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases")
    parser.add_argument("out")
    parser.add_argument("ids", nargs="+", metavar="ID")
    parser.add_argument("--voxel", nargs=2, type=float, default=(1.4, 1.5), metavar="MM")
    parser.add_argument("--keep", action="store_true", help="keep the slices as cases, too")
    args = parser.parse_args()
    base = os.path.dirname(os.path.abspath(args.cases))
    with open(args.cases, newline="") as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        for column in "ct", "lung", "lesion":
            if row[column]:
                row[column] = os.path.join(base, row[column])
    taken, stacks = set(), []
    for name in args.ids:
        own = sorted((r for r in rows if r["kind"] == "slice" and r["id"].startswith(name)), key=lambda r: r["id"])
        if len(own) < 9 or not all(r["lung"] and r["lesion"] for r in own) or len({r["patient"] for r in own}) != 1:
            sys.exit(f"{name}: {len(own)} slices; expected nine or more of one patient, each with lung and lesion mask")
        taken |= {r["id"] for r in own}
        stacks.append(stack(name, own, args.out, args.voxel))
        print(f"{stacks[-1]['id']}: {len(own)} slices")
    kept = [r for r in rows if args.keep or r["id"] not in taken]
    with open(f"{args.out}/cases.csv", "w", newline="") as f:
        table = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(kept + stacks)


main()
