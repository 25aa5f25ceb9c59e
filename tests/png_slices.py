"""png_slices.py CT FOLDER: three slices of a phantom's NIfTI as 8-bit PNG in the method's window, the last one cut smaller."""
import gzip, os, struct, sys, zlib

raw = gzip.open(sys.argv[1], "rb").read()
nx, ny, nz = struct.unpack("<3h", raw[42:48])
kind, = struct.unpack("<h", raw[70:72])
slope, inter = struct.unpack("<2f", raw[112:120])
assert struct.unpack("<i", raw[:4])[0] == 348 and kind == 4, "expected a little-endian NIfTI-1 of int16"
voxels = memoryview(raw[352 : 352 + 2 * nx * ny * nz]).cast("h")


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


os.makedirs(sys.argv[2])
for k, (rows, cols) in enumerate([(ny, nx), (ny, nx), (ny - 7, nx - 3)]):
    z = (k + 1) * nz // 4
    lines = b""
    for y in range(ny - 1, ny - 1 - rows, -1):  # phantoms' rows run to anterior
        hu = [voxels[(z * ny + y) * nx + x] * (slope or 1) + inter for x in range(cols)]
        lines += b"\0" + bytes(min(255, max(0, round((v + 1300) * 255 / 1600))) for v in hu)
    with open(f"{sys.argv[2]}/slice{k}.png", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", cols, rows, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
