"""Adds to an archive what a hostile or careless sender might put there. Prints a line "reason<TAB>path as Python literal" for each
study that must be accounted for, "-" for what must not be one. Needs root for the device; says so if it cannot make it."""
import gzip
import os
import socket
import struct
import sys
import zlib
from pathlib import Path

root = os.fsencode(sys.argv[1])
expected = []


def path(*parts):
    p = os.path.join(root, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def put(reason, data, *parts):
    with open(path(*parts), "wb") as f:
        f.write(data)
    expected.append((reason, os.path.join(*parts)))


def nifti1(dim=(3, 32, 32, 4, 1, 1, 1, 1), kind=4, bits=16, pixdim=(1, 1, 1, 1, 0, 0, 0, 0), offset=352.0, slope=1.0, inter=0.0,
           srow=None, magic=b"n+1\0"):
    h = bytearray(352)
    struct.pack_into("<i", h, 0, 348)
    struct.pack_into("<8h", h, 40, *dim)
    struct.pack_into("<hh", h, 70, kind, bits)
    struct.pack_into("<8f", h, 76, *pixdim)
    struct.pack_into("<fff", h, 108, offset, slope, inter)
    if srow:
        struct.pack_into("<hh", h, 252, 0, 1)
        struct.pack_into("<12f", h, 280, *srow)
    h[344:348] = magic
    return bytes(h)


def nifti2(dim, kind=4, bits=16, offset=544):
    h = bytearray(544)
    struct.pack_into("<i", h, 0, 540)
    h[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<hh", h, 12, kind, bits)
    struct.pack_into("<8q", h, 16, *dim)
    struct.pack_into("<8d", h, 104, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<q", h, 168, offset)
    struct.pack_into("<d", h, 176, 1.0)
    return bytes(h)


def png(rows, cols, data, bits=8):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", cols, rows, bits, 0, 0, 0, 0)) + chunk(b"IDAT", data) + \
        chunk(b"IEND", b"")


nan, inf = float("nan"), float("inf")
voxels = bytes(32 * 32 * 4 * 2)
# Headers that ask for more than there is, or than there can be.
put("TOO_LARGE", nifti1((3, 32767, 32767, 9, 1, 1, 1, 1)) + bytes(48), b"bomb", b"18gb.nii")
put("TRUNCATED", nifti1((3, 5000, 5000, 20, 1, 1, 1, 1)) + bytes(48), b"bomb", b"1gb.nii")
put("TOO_LARGE", gzip.compress(nifti1((3, 32767, 32767, 9, 1, 1, 1, 1)) + bytes(48)), b"bomb", b"18gb.nii.gz")
put("TOO_LARGE", nifti2((3, 1 << 62, 1 << 62, 4, 1, 1, 1, 1)) + voxels, b"bomb", b"overflow.nii")
put("BAD_HEADER", nifti2((200, 32, 32, 4, 1, 1, 1, 1)) + voxels, b"bomb", b"dim0.nii")
put("BAD_HEADER", nifti1((3, -32, 32, 4, 1, 1, 1, 1)) + voxels, b"bomb", b"negative.nii")
put("TOO_LARGE", gzip.compress(nifti1((3, 1024, 1024, 96, 1, 1, 1, 1)) + bytes(1024 * 1024 * 96 * 2), 9), b"bomb", b"inflates.nii.gz")
put("TRUNCATED", png(8000, 8000, zlib.compress(b"")), b"bomb", b"png", b"a.png")
put("BAD_HEADER", png(2000000, 2000000, zlib.compress(b"")), b"bomb", b"huge-png", b"a.png")
expected[-1:] = [("BAD_HEADER", b"bomb/huge-png")]
expected[-2:-1] = [("TRUNCATED", b"bomb/png")]
# Fields that are no numbers.
put("BAD_HEADER", nifti1(offset=nan) + voxels, b"nan", b"offset.nii")
put("BAD_HEADER", nifti1(offset=inf) + voxels, b"nan", b"offset-inf.nii")
put("BAD_HEADER", nifti1(offset=-1e30) + voxels, b"nan", b"offset-negative.nii")
put("GEOMETRY", nifti1(pixdim=(1, nan, 1, 1, 0, 0, 0, 0)) + voxels, b"nan", b"pixdim.nii")
put("GEOMETRY", nifti1(srow=(nan,) * 12) + voxels, b"nan", b"srow.nii")
put("GEOMETRY", nifti1(srow=(inf, 0, 0, 0, 0, inf, 0, 0, 0, 0, inf, 0)) + voxels, b"nan", b"srow-inf.nii")
put("BAD_HEADER", nifti1(slope=nan) + voxels, b"nan", b"slope.nii")
put("NOT_CT", nifti1(kind=16, bits=32) + struct.pack("<f", nan) * (32 * 32 * 4), b"nan", b"voxels.nii")
put("BAD_HEADER", b"", b"nan", b"empty.nii")
# Begins as what it says, and becomes longer while it is read (hostile.sh writes on).
put("-", nifti1((3, 64, 64, 3000, 1, 1, 1, 1)), b"grows", b"ct.nii")
expected.pop()
# Names.
for name in (b"new\nline.nii", b"\xff\xfe not UTF-8 \xc3.nii", b"-rf --out.nii", b"'; rm -rf $HOME; `x`.nii", b"esc\x1b[2J\x07.nii",
             b"comma,\"quote\".nii", b"n" * 251 + b".nii", b"%s%n%d.nii"):
    put("TRUNCATED", nifti1(), b"names", name)
# The longest path that opens, and one that does not fit any more.
deep, at = root, os.getcwdb()
os.chdir(root)
parts = []
while sum(len(p) + 1 for p in parts) + len(root) < 3800:
    parts.append(b"d" * 200)
    os.mkdir(parts[-1])
    os.chdir(parts[-1])
rest = 4095 - len(root) - sum(len(p) + 1 for p in parts) - 1
for length, reason in ((min(rest, 255), "-"), ):
    with open(b"l" * (length - 4) + b".nii", "wb") as f:
        f.write(nifti1())
os.mkdir(b"e" * 200)
os.chdir(b"e" * 200)
with open(b"f" * 200 + b".nii", "wb") as f:
    f.write(nifti1())
os.chdir(at)
# What is no file.
os.makedirs(path(b"special", b"x"))
os.mkfifo(path(b"special", b"fifo.nii.gz"))
s = socket.socket(socket.AF_UNIX)
os.chdir(path(b"special", b"x").rsplit(b"/", 1)[0])
s.bind("socket.nii")
try:
    os.mknod("zero.nii", 0o600 | 0o020000, os.makedev(1, 5))
except PermissionError:
    print("no device could be made", file=sys.stderr)
os.chdir(at)
# Links: in a circle, up, out, nowhere, to itself, to a device.
for target, name in ((b"..", b"up"), (b"self.nii", b"self.nii"), (b"/etc/passwd", b"out.nii"), (b"/etc", b"out"), (b"nowhere", b"gone.nii"),
                     (b"b", b"a"), (b"a", b"b"), (b"/dev/zero", b"device.nii"), (b"../../../../../../../../proc/self/mem", b"mem.nii")):
    os.symlink(target, path(b"links", name))
for reason, name in expected:
    print(f"{reason}\t{name!r}")
