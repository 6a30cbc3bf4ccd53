#!/usr/bin/env python3
"""What clips of the built-in model lose when its transformer's weights are a byte each. Usage: quantised.py PROGRAM [--clips N] [--steps N]

A copy of the model has every matrix of the transformer sent through int8 (or fp8 e4m3) with a scale for each output row, as
src/kinora/ops/byte_linear.h does it, and back to float32. Both models draw the same prompts and seeds in float32; bfloat16 of
the unchanged model stands beside them. Prints the mean PSNR and SSIM of each against float32. Python's own library only.
"""
import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = Path(__file__).resolve().parent.parent / "assets" / "shapes"
SHAPES, COLOURS = ["square", "ball", "triangle", "star"], ["red", "blue", "green", "yellow"]


def int8_row(row):
    most = max(map(abs, row))
    scale = most / 127
    return [round(x / scale) * scale if scale else 0.0 for x in row]


def e4m3(x):
    """The nearest number with 3 bits of mantissa and exponents from -6, at most 448."""
    if x == 0:
        return 0.0
    step = 2.0 ** (max(math.floor(math.log2(abs(x))), -6) - 3)
    return max(-448.0, min(448.0, round(x / step) * step))


def fp8_row(row):
    scale = max(map(abs, row)) / 448
    return [e4m3(x / scale) * scale if scale else 0.0 for x in row]


def through(source, target, change):
    """The file with every matrix changed row by row, as float32."""
    data = source.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, body, blobs, at = json.loads(data[8:8 + size]), data[8 + size:], [], 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        blob = body[begin:end]
        if name.endswith(".weight") and len(entry["shape"]) == 2:
            assert entry["dtype"] == "BF16", name
            halves = struct.unpack(f"<{len(blob) // 2}H", blob)
            values = struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I", *(h << 16 for h in halves)))
            width = entry["shape"][1]
            changed = [y for r in range(entry["shape"][0]) for y in change(values[r * width:(r + 1) * width])]
            blob = struct.pack(f"<{len(changed)}f", *changed)
            entry["dtype"] = "F32"
        entry["data_offsets"] = [at, at + len(blob)]
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        models = {"float32": MODEL}
        for name, change in (("int8", int8_row), ("fp8", fp8_row)):
            models[name] = folder / name
            shutil.copytree(MODEL, models[name])
            file = "transformer/diffusion_pytorch_model.safetensors"
            through(MODEL / file, models[name] / file, change)
            (models[name] / "transformer" / "calibration.json").unlink()

        def draw(name, model, dtype, clip):
            prompt = f"a {COLOURS[clip % 4]} {SHAPES[clip // 4 % 4]} moves {['up', 'down'][clip % 2]} on a gray background"
            out = folder / f"clips-{name}-{clip}"
            command = [args.program, "generate", prompt, "-m", model, "--seed", clip, "--dtype", dtype, "--steps", args.steps, "--output", f"{out}/"]
            subprocess.run([str(c) for c in command], check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return out

        for clip in range(args.clips):
            draw("float32", MODEL, "float32", clip)
        for name, model, dtype in (("bfloat16", MODEL, "bfloat16"), ("int8", models["int8"], "float32"), ("fp8", models["fp8"], "float32")):
            rows = []
            for clip in range(args.clips):
                out = draw(name, model, dtype, clip)
                text = subprocess.run([args.program, "eval", f"{folder}/clips-float32-{clip}", out, "--json"], check=True, env=environment, capture_output=True, text=True).stdout
                rows.append(json.loads(text.splitlines()[-1]))
            mean = {key: round(sum(r[key] for r in rows) / len(rows), 3) for key in ("psnr", "ssim")}
            print(json.dumps({"weights": name, "clips": args.clips, "steps": args.steps, **mean}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
