"""privacy_archive.py PHANTOM ARCHIVE: an archive in which every place for text of a NIfTI, PNG or DICOM header holds a secret that begins
with MARK, in sound files and in damaged ones. PHANTOM: a .nii.gz of `covpipe phantom`."""
import gzip
import os
import struct
import sys
import zlib
from pathlib import Path

MARK = b"ZqKXdoe"
raw, archive = gzip.decompress(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
nx, ny, nz = struct.unpack_from("<3h", raw, 42)
assert struct.unpack_from("<i", raw)[0] == 348 and struct.unpack_from("<h", raw, 70)[0] == 4, "expected a little-endian NIfTI-1 of int16"
voxels = raw[int(struct.unpack_from("<f", raw, 108)[0]):]
count = 0


def secret(room):
    global count
    count += 1
    return (MARK + b"%03d^Jane" % count)[:room].ljust(room, b"\0")


def put(name, data):
    path = archive / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def extensions():
    """The comment (ecode 6), DICOM (2) and XML of who sent it (4)."""
    def one(code, data):
        return struct.pack("<ii", 8 + len(data), code) + data
    return b"\1\0\0\0" + one(6, secret(24)) + one(2, b"\x10\0\x10\0PN" + secret(18)) + one(4, b"<x>" + secret(21))


def nifti1(**more):
    h, extra = bytearray(raw[:348]), extensions()
    for at, room in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):  # data_type, db_name, descrip, aux_file, intent_name
        h[at:at + room] = secret(room)
    struct.pack_into("<f", h, 108, 348 + len(extra))
    for at, data in more.get("spoil", {}).items():
        h[at:at + len(data)] = data
    return bytes(h) + extra


def nifti2():
    h, extra = bytearray(540), extensions()
    struct.pack_into("<i8s2h", h, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16)
    struct.pack_into("<8q", h, 16, *struct.unpack_from("<8h", raw, 40))
    struct.pack_into("<8d", h, 104, *struct.unpack_from("<8f", raw, 76))
    struct.pack_into("<q2d", h, 168, 540 + len(extra), *struct.unpack_from("<2f", raw, 112))
    struct.pack_into("<2i", h, 344, *struct.unpack_from("<2h", raw, 252))
    struct.pack_into("<18d", h, 352, *struct.unpack_from("<18f", raw, 256))
    struct.pack_into("<i", h, 500, raw[123])
    for at, room in ((240, 80), (320, 24), (508, 16), (525, 15)):  # descrip, aux_file, intent_name, unused_str
        h[at:at + room] = secret(room)
    return bytes(h) + extra


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(z):
    lines = b""
    for y in range(ny):
        hu = struct.unpack_from(f"<{nx}h", voxels, 2 * (z * ny + y) * nx)
        lines += b"\0" + bytes(min(255, max(0, (v + 1300) * 255 // 1600)) for v in hu)
    texts = [(b"tEXt", b"Author\0" + secret(20)), (b"zTXt", b"Comment\0\0" + zlib.compress(secret(20))),
             (b"iTXt", b"Title\0\1\0en\0\0" + zlib.compress(secret(20))), (b"iTXt", b"Source\0\0\0en\0\0" + secret(20)),
             (b"eXIf", b"II*\0\x08\0\0\0" + secret(20)), (b"prVt", secret(20))]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", nx, ny, 8, 0, 0, 0, 0)) + b"".join(chunk(*t) for t in texts) + \
        chunk(b"IDAT", zlib.compress(lines)) + chunk(b"tEXt", b"Late\0" + secret(20)) + chunk(b"IEND", b"")


tail = secret(20)
for name, head in (("one.nii", nifti1), ("packed/one.nii.gz", nifti1), ("two.nii", nifti2), ("packed/two.nii.gz", nifti2)):
    put(name, head() + voxels + tail)
header = nifti1(spoil={108: struct.pack("<f", 0), 344: b"ni1\0"})
put("pair/p.hdr", header)
put("pair/p.img", voxels + tail)
for z in range(1, 3):
    put(f"slices/{z}.png", png(z))
# What readers complain of: the words must not be the file's.
put("bad/starts.nii", secret(400))
put("bad/magic.nii", nifti1(spoil={344: MARK[:4]}) + voxels)
put("bad/type.nii", nifti1(spoil={70: b"Zq"}) + voxels)
put("bad/cut.nii.gz", nifti1() + voxels[:999])
put("bad/grid.nii", nifti1(spoil={76: MARK + secret(20), 252: bytes(4)}) + voxels)
put("bad/png/a.png", png(1)[:330])
put("bad/nopng/a.png", secret(200))
put("bad/chunk/a.png", png(1)[:33] + chunk(MARK[:4], secret(24)) + png(1)[33:])
dicom = b"\x02\0\0\0UL\x04\0\0\0\0\0\x10\0\x10\0PN" + struct.pack("<H", 20) + secret(20)
put("dicom/1.dcm", secret(128) + b"DICM" + dicom)
put("bare/IM0001", secret(128) + b"DICM" + dicom)
print(f"{count} secrets")
