#!/usr/bin/env python3
"""Chooses fusion weight and CRF for each patient on the *other* patients' held-out results, and scores the patient with them.

    covpipe eval lung --grid --fold PATIENT --lung-axial A.h5 --lung-sagittal S.h5 --cases C --json PATIENT.json   (each fold)
    scripts/lung-choice.py *.json

The choice is the best mean over patients of Dice and share of lesion kept, (Dice + kept) / 2.
"""
import json
import sys
from statistics import mean

scores = {}  # patient -> option -> [(case, Dice, kept)]
for path in sys.argv[1:]:
    for row in json.load(open(path)):
        if row.get("variant") == "grid" and row["lesion_kept"] is not None:
            option = row["fusion"], tuple(row.get("crf") or ())
            scores.setdefault(row["patient"], {}).setdefault(option, []).append((row["id"], row["dice"], row["lesion_kept"]))


def merit(patient, option):
    return mean((dice + kept) / 2 for _, dice, kept in scores[patient][option])


print("| case | patient | fusion | CRF: weights, thetas, iterations | Dice | lesion kept |")
print("| --- | --- | --- | --- | --- | --- |")
dices, shares = [], []
for patient in sorted(scores):
    others = [p for p in scores if p != patient]
    best = max(sorted(scores[patient]), key=lambda o: mean(merit(p, o) for p in others))
    crf = " ".join(f"{x:.3g}" for x in best[1]) or "none"
    for case, dice, kept in sorted(scores[patient][best]):
        print(f"| {case} | {patient} | {best[0]:g} | {crf} | {dice:.4f} | {kept:.4f} |")
        dices.append(dice)
        shares.append(kept)
print(f"| **mean** | | | | {mean(dices):.4f} | {mean(shares):.4f} |")
print(f"| **worst** | | | | {min(dices):.4f} | {min(shares):.4f} |")
everyone = max(sorted(next(iter(scores.values()))), key=lambda o: mean(merit(p, o) for p in scores))
print(f"\nchosen on all patients, for the weights that are shipped: fusion {everyone[0]:g}, CRF {' '.join(f'{x:.3g}' for x in everyone[1]) or 'none'}")
