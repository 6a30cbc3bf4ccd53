#!/usr/bin/env python3
"""Writes the table of docs/cache.md from what `kinora calibrate` measured.

  python3 bench/cache_table.py assets/shapes/transformer/calibration.json docs/cache.md
"""
import json
import sys

from performance import replace, table


def cells(measured):
    return [f"{measured['speed']:.2f}x", f"{measured['psnr']:.1f}", f"{measured['ssim']:.4f}"] if measured else ["-"] * 3


def calibration(runs):
    """Plans of as large a share of the calls stand in one row, other caches in a row of their own."""
    of_run = []
    for run in runs:
        plans = [m for m in run["measured"] if m["cache"].startswith("planned:")]
        of_run.append({f"plan {i}": m for i, m in enumerate(plans)} |
                      {m["cache"]: m for m in run["measured"] if m not in plans})
    rows = []
    for key in dict.fromkeys(key for run in of_run for key in run):
        found = [run.get(key) for run in of_run]
        calls = " / ".join(m["cache"].removeprefix("planned:calls=") for m in found if m)
        name = "planned:calls=" + calls if key.startswith("plan ") else key
        rows.append([f"`{name}`", *[cell for m in found for cell in cells(m)]])
    return table(["cache", *[head for run in runs for head in (f"{run['steps']} steps", "PSNR", "SSIM")]], rows)


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        runs = sorted(json.load(file)["runs"], key=lambda run: -run["steps"])
    with open(sys.argv[2], encoding="ascii") as file:
        page = file.read()
    with open(sys.argv[2], "w", encoding="ascii") as file:
        file.write(replace(page, "calibration", calibration(runs)))


if __name__ == "__main__":
    main()
