#!/usr/bin/env python3
"""Chooses fusion and CRF for each patient on the *other* patients' held-out results, and scores the patient with them.

    covpipe eval lung --grid --fold PATIENT --lung-axial A.h5 --lung-sagittal S.h5 --cases C --json PATIENT.json   (each fold)
    scripts/lung-choice.py *.json

The choice is the best mean over patients of (Dice + share of lesion kept + Dice of the copies + share kept of what was drawn into
them) / 4: a patient's cases are means, and so are a case's copies with made-up consolidation.
"""
import json
import sys
from statistics import mean

scores = {}  # patient -> option -> case -> (Dice, kept)
copies = {}  # case -> option -> [(Dice, kept)], one a copy
for path in sys.argv[1:]:
    for row in json.load(open(path)):
        option = row.get("fusion"), row.get("prior"), tuple(row.get("crf") or ())
        if row["variant"] == "drawn":
            copies.setdefault(row["id"], {}).setdefault(option, []).append((row["dice"], row["drawn_kept"]))
        elif row["variant"] == "grid" and row["lesion_kept"] is not None:
            scores.setdefault(row["patient"], {}).setdefault(option, {})[row["id"]] = row["dice"], row["lesion_kept"]


def figures(patient, option):
    """(case, Dice, kept, Dice of the copies, kept of what was drawn) of each case."""
    for case, own in sorted(scores[patient][option].items()):
        yield case, *own, *(mean(column) for column in zip(*copies[case][option]))


def merit(patient, option):
    return mean(mean(row[1:]) for row in figures(patient, option))


def choice(patients):
    return max(sorted(next(iter(scores.values()))), key=lambda option: mean(merit(p, option) for p in patients))


def crf_of(option):
    return " ".join(f"{x:.3g}" for x in option[2]) or "none"


print("| case | patient | fusion | prior | CRF: weights, thetas, iterations | Dice | lesion kept | Dice, drawn | drawn kept |")
print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
table = []
for patient in sorted(scores):
    best = choice([p for p in scores if p != patient])
    for case, *row in figures(patient, best):
        print(f"| {case} | {patient} | {best[0]:g} | {best[1]:g} | {crf_of(best)} | " + " | ".join(f"{x:.4f}" for x in row) + " |")
        table.append(row)
for name, of in ("mean", mean), ("worst", min):
    print(f"| **{name}** | | | | | " + " | ".join(f"{of(column):.4f}" for column in zip(*table)) + " |")
everyone = choice(scores)
print(f"\nchosen on all patients, for the weights that are shipped: fusion {everyone[0]:g}, prior {everyone[1]:g}, CRF {crf_of(everyone)}")
