#!/usr/bin/env python3
"""Chooses a lesion model's score threshold for each patient on the *other* patients' held-out results, and scores the patient with it.

    covpipe eval lesion --cross --weights FOLD.h5,... --cases CASES --json MODEL.json
    scripts/lesion-choice.py MODEL.json

Volumes alone. The choice is what `covpipe eval lesion --choose screen` takes on training patients, the best mean of volume Dice (mean over
patients; a volume of fewer than 100 lesion voxels has none) and Dice over all slices, 1 where nothing is and nothing is found.
"""
import json
import sys
from statistics import mean

LEAST = 100
at = {}  # threshold -> patient -> rows of its studies
for row in json.load(open(sys.argv[1])):
    if row["what"] == "study sweep" and not row["isolated"]:
        at.setdefault(round(row["threshold"], 2), {}).setdefault(row["patient"], []).append(row)
if not at:
    sys.exit(f"{sys.argv[1]}: no volume at each threshold in it")
patients = sorted({p for rows in at.values() for p in rows})


def volume_dice(rows):
    """Mean over a patient's volumes; None where none has lesion enough."""
    dice = [2 * r["both_px"] / (r["truth_px"] + r["found_px"]) for r in rows if r["truth_px"] >= LEAST]
    return mean(dice) if dice else None


def mean_volume_dice(studies):
    dice = [d for rows in studies.values() if (d := volume_dice(rows)) is not None]
    return mean(dice) if dice else sys.exit("no volume with lesion among " + ", ".join(studies))


def merit(threshold, of):
    studies = {p: at[threshold][p] for p in of}
    slices = [r["Dice, all slices"] for rows in studies.values() for r in rows]
    return (mean_volume_dice(studies) + sum(top for top, _ in slices) / sum(bottom for _, bottom in slices)) / 2


def choice(of):
    return max(sorted(at), key=lambda threshold: merit(threshold, of))


def percent(row):
    return f"{100 * row['found_px'] / row['lung_px']:.2f}"


chosen = {p: choice([q for q in patients if q != p]) for p in patients}
print("| study | patient | score | volume Dice | found, % of lung | reference |\n| --- | --- | --- | --- | --- | --- |")
for p in patients:
    for r in at[chosen[p]][p]:
        dice = volume_dice([r])
        print(f"| {r['id']} | {p} | {chosen[p]:.2f} | {'-' if dice is None else f'{dice:.4f}'} | {percent(r)} | {100 * r['truth_px'] / r['lung_px']:.2f} |")
print(f"\nmean volume Dice over patients {mean_volume_dice({p: at[chosen[p]][p] for p in patients}):.4f}")
everyone = choice(patients)
print(f"chosen on all patients, for weights of all: score {everyone:.2f}")
print("\n| score | mean volume Dice | merit | % of lung found in studies without lesion |\n| --- | --- | --- | --- |")
for threshold in sorted(at):
    clean = [percent(r) for p in patients for r in at[threshold][p] if not r["truth_px"]]
    print(f"| {threshold:.2f} | {mean_volume_dice(at[threshold]):.4f} | {merit(threshold, patients):.4f} | {', '.join(clean)} |")
