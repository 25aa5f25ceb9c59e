"""find_secrets.py MARK FOLDER...: exit code 1 if MARK is in any file there: in its name or bytes, in a gzip's content, in a dataset, an
attribute or a name of an HDF5 file (decompressed), in a PNG's chunks (inflated); in any case of letters, as UTF-16, and as the file's own
hexadecimal or base64."""
import base64
import gzip
import sys
import zlib
from pathlib import Path

import h5py

mark = sys.argv[1].encode()
forms = {mark, mark.upper(), mark.lower(), mark.decode().encode("utf-16-le"), mark.decode().encode("utf-16-be"), mark.hex().encode()}
forms |= {base64.b64encode(b"\0" * k + mark)[(0, 2, 3)[k]:][:8] for k in range(3)}
looked = {"files": 0, "HDF5 objects": 0, "inflated": 0}
found = []


def look(where, data):
    for form in forms:
        if form in data:
            found.append(f"{where}: {form!r} at byte {data.index(form)}")


def look_at_hdf5(path):
    with h5py.File(path) as f:
        def one(name, item):
            looked["HDF5 objects"] += 1
            look(f"{path}:{name}", name.encode())
            for key, value in item.attrs.items():
                look(f"{path}:{name}@{key}", key.encode() + (value.tobytes() if hasattr(value, "tobytes") else str(value).encode()) + str(value).encode())
            if isinstance(item, h5py.Dataset):
                value = item[()]
                words = value.ravel().tolist() if getattr(value, "dtype", None) == object else []
                look(f"{path}:{name}", b"\0".join(w if isinstance(w, bytes) else str(w).encode() for w in words) +
                     (value if isinstance(value, bytes) else value.tobytes()))
        one("/", f)
        f.visititems(one)


def look_at_png(path, data):
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        body = data[at + 8:at + 8 + size]
        for start in range(len(body)) if data[at + 4:at + 8] != b"IDAT" else []:
            try:
                look(path, zlib.decompress(body[start:]))
                looked["inflated"] += 1
            except zlib.error:
                pass
        at += 12 + size


for folder in sys.argv[2:]:
    for path in sorted(Path(folder).rglob("*")) if Path(folder).is_dir() else [Path(folder)]:
        look(path, str(path).encode())
        if not path.is_file():
            continue
        data = path.read_bytes()
        looked["files"] += 1
        look(path, data)
        if data[:2] == b"\x1f\x8b":
            look(path, gzip.decompress(data))
            looked["inflated"] += 1
        if data[:4] == b"\x89PNG":
            look_at_png(path, data)
        if path.suffix == ".h5":
            look_at_hdf5(path)
print(", ".join(f"{n} {what}" for what, n in looked.items()))
print("\n".join(found))
sys.exit(bool(found) or looked["files"] == 0)
