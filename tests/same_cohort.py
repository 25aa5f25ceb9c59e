"""Compares two cohort files dataset by dataset: shapes, types and bytes; only time and rank may differ. Exit code 1 if they do."""
import sys
import h5py


def datasets(path):
    found = {}
    with h5py.File(path, "r") as f:
        def visit(name, item):
            leaf = name.split("/")[-1]
            if isinstance(item, h5py.Dataset) and not leaf.startswith("seconds_") and leaf != "rank":
                data = item[()]
                found[name] = (item.shape, str(item.dtype), data.tobytes() if hasattr(data, "tobytes") else bytes(data))
        f.visititems(visit)
    return found


def differing(a, b):
    return sorted(set(a) ^ set(b)) + sorted(n for n in set(a) & set(b) if a[n] != b[n])


if __name__ == "__main__":
    a, b = datasets(sys.argv[1]), datasets(sys.argv[2])
    bad = differing(a, b)
    for name in bad:
        print("differs:", name, a.get(name, "-")[:2], b.get(name, "-")[:2])
    print(f"{len(a)} datasets compared, {len(bad)} differ")
    sys.exit(1 if bad or not a else 0)
