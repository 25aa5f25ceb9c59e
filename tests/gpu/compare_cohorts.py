"""compare_cohorts.py A B DICE SHARE: the figures of A.csv and B.csv (covpipe inspect --csv) and the masks in the folders A and B
(covpipe export) agree: Dice of each mask at least DICE, millilitres to SHARE of the larger. Prints every figure. Standard library only."""
import csv
import gzip
import pathlib
import sys


def mask(path):
    raw = gzip.open(path).read()
    wide = int.from_bytes(raw[:4], "little") == 540
    return raw[544 if wide else 352:]


def dice(a, b):
    both = sum(1 for x, y in zip(a, b) if x and y)
    total = sum(1 for x in a if x) + sum(1 for x in b if x)
    return 2 * both / total if total else 1.0


def main(a, b, least, share):
    bad = 0
    rows = [{r["path"]: r for r in csv.DictReader(open(f"{at}.csv"))} for at in (a, b)]
    if rows[0].keys() != rows[1].keys():
        print(f"FAIL: other studies: {rows[0].keys()} and {rows[1].keys()}")
        bad += 1
    for path, row in rows[0].items():
        other = rows[1].get(path, {})
        for name in ("status", "reason"):
            if row[name] != other.get(name):
                print(f"FAIL {path}: {name} {row[name]}, and {other.get(name)}")
                bad += 1
        for name in ("lung_ml", "lung_left_ml", "lung_right_ml", "lesion_ml"):
            x, y = float(row[name] or "nan"), float(other[name] or "nan")
            if x != x and y != y:
                continue
            far = not abs(x - y) <= share * max(abs(x), abs(y), 1)
            print(f"{'FAIL ' if far else ''}{path}: {name} {x:.2f} and {y:.2f}")
            bad += far
    for one in sorted(pathlib.Path(a).iterdir()):
        d = dice(mask(one), mask(pathlib.Path(b) / one.name))
        print(f"{'FAIL ' if d < least else ''}{one.name}: Dice {d:.5f}")
        bad += d < least
    return bad > 0


sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
