#!/usr/bin/env python3
"""Writes the tables of docs/performance.md (and of docs/cache.md and docs/parallel.md) from the JSON lines of `kinora bench` and bench/peers.

  python3 bench/performance.py build/bench.jsonl docs/performance.md

A table stands between <!-- NAME --> and <!-- end --> and stays as it is where there are no lines for it. A line that belongs to no
table is an error.
"""
import json
import sys


def table(head, rows):
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), line(["---"] * len(head))] + [line(row) for row in rows])


def of(lines, bench):
    return [line for line in lines if line["bench"] == bench]


def dtype(line):
    return {"Float": "float32", "BFloat16": "bfloat16"}.get(line["dtype"], line["dtype"])


def gemm(lines):
    return table(["dtype", "threads", "rows x columns x inner", "GFLOP/s", "of the register-only loop"],
                 [[dtype(r), str(r["threads"]), " x ".join(map(str, r["size"])), f"{r['gflops']:.0f}",
                   f"{r['share_of_peak']:.2f}" if "share_of_peak" in r else "-"] for r in of(lines, "gemm")])


def operators(lines):
    rows = {}
    for r in of(lines, "op"):
        rate = f"{r['gflops']:.0f} GFLOP/s" if "gflops" in r else f"{r['gbytes_per_s']:.1f} GB/s"
        rows.setdefault(r["op"], {})[dtype(r)] = f"{r['ms']:.2f} ms, {rate}"
    return table(["operator", "bfloat16", "float32"], [[op, by.get("bfloat16", "-"), by.get("float32", "-")] for op, by in rows.items()])


def dit(lines):
    return table(["dtype", "threads", "layers", "seconds a call", "GFLOP", "time / (FLOPs / GEMM rate)", "activations, MiB"],
                 [[dtype(r), str(r["threads"]), str(r["layers"]), f"{r['seconds']:.2f}", f"{r['gflop']:.0f}",
                   f"{r['ratio_to_gemm_floor']:.2f}", f"{r['activation_bytes'] / 2**20:.0f}"] for r in of(lines, "dit")])


def vae(lines):
    return table(["work", "clip", "dtype", "threads", "seconds", "frames/s"],
                 [[r["work"], "x".join(map(str, r["clip"])), dtype(r), str(r["threads"]), f"{r['seconds']:.1f}", f"{r['frames_per_s']:.2f}"]
                  for r in of(lines, "vae")])


def builtin(lines):
    percent = lambda share: f"{100 * share:.0f} %"
    return table(["prompts", "clips", "colour", "shape", "motion", "background", "seconds a clip"],
                 [[r["split"], str(r["clips"]), percent(r["colour"]), percent(r["shape"]), percent(r["motion"]), percent(r["background"]),
                   f"{r['seconds_per_clip']:.2f}"] for r in of(lines, "builtin")])


def cache(lines):
    rows = [[c["cache"], "x".join(map(str, r["latent"])), str(r["layers"]), str(r["steps"]), f"{c['ratio_to_plain']:.3f}",
             f"{c['predicted_ratio']:.3f}", f"**{c['over_predicted']:.3f}**"] for r in of(lines, "cache") for c in r["caches"]]
    return table(["cache", "latents", "pairs of blocks", "steps", "time / plain", "predicted from the hits", "time / predicted"], rows)


def parallel(lines):
    mb = lambda size: f"{size / 1e6:.2f}"
    rows = [[str(r["ranks"]), m["layout"], mb(m["bytes_in_blocks"]), mb(m["bytes"]), f"{m['exchanges']:.0f}", f"{m['seconds']:.2f}",
             f"{m['waited_s']:.2f}"] for r in of(lines, "parallel") for m in r["layouts"]]
    return table(["ranks", "layout", "sent in blocks, MB", "sent in all, MB", "exchanges", "seconds a call", "of these waited"], rows)


def layouts(lines):
    names = ["dsp", "ulysses", "ulysses+ring", "ring", "megatron"]
    rows = []
    for r in of(lines, "layouts"):
        by = {m["layout"]: m for m in r["layouts"]}
        rows.append([r["link"], str(r["ranks"]), *(f"{by[n]['bytes'] / 1e9:.2f} GB, {by[n]['speedup']:.1f}x" if n in by else "-" for n in names)])
    return table(["link", "GPUs", *names], rows)


def peers(lines):
    return table(["model", "peer", "dtype", "threads", "layers", "parameters, M", "Kinora, s", "peer, s", "Kinora / peer", "Kinora / floor",
                  "peer / floor"],
                 [[r["model"], r["peer"], dtype(r), str(r["threads"]), str(r.get("layers", "-")), f"{r['parameters'] / 1e6:.0f}",
                   f"{r['kinora_seconds']:.2f}", f"{r['peer_seconds']:.2f}", f"**{r['ratio']:.3f}**", f"{r['kinora_ratio_to_gemm_floor']:.2f}",
                   f"{r['peer_ratio_to_gemm_floor']:.2f}"] for r in of(lines, "peers")])


TABLES = {"gemm": ("gemm", gemm), "operators": ("op", operators), "dit": ("dit", dit), "vae": ("vae", vae),
          "builtin": ("builtin", builtin), "cache": ("cache", cache), "parallel": ("parallel", parallel),
          "layouts": ("layouts", layouts), "peers": ("peers", peers)}
NO_TABLE = {"judge", "clip"}  # what `bench builtin` prints besides


def replace(page, name, text):
    """The page with this table new, or as it is where it has no such table."""
    begin = f"<!-- {name} -->\n"
    if begin not in page:
        return page
    before, after = page.split(begin, 1)
    return before + begin + text + "\n<!-- end -->" + after.split("<!-- end -->", 1)[1]


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    unknown = {line["bench"] for line in lines} - {bench for bench, _ in TABLES.values()} - NO_TABLE
    if unknown:
        sys.exit(f"{sys.argv[1]}: no table is for the lines of {', '.join(sorted(unknown))}")
    with open(sys.argv[2], encoding="ascii") as file:
        page = file.read()
    for name, (bench, make) in TABLES.items():
        if of(lines, bench):
            page = replace(page, name, make(lines))
    with open(sys.argv[2], "w", encoding="ascii") as file:
        file.write(page)


if __name__ == "__main__":
    main()
