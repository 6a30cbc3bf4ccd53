#!/usr/bin/env python3
"""What clips of the built-in model lose when its matrices are a byte each. Usage: quantised.py PROGRAM [--clips N] [--steps N]

Draws the same prompts and seeds in float32, in bfloat16 and with `--quantize`, and compares each with float32 by
`kinora eval`: a JSON line of mean PSNR and SSIM for each. Python's own library only.
"""
import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

SHAPES, COLOURS = ["square", "ball", "triangle", "star"], ["red", "blue", "green", "yellow"]
WAYS = {"bfloat16": ["--dtype", "bfloat16"], "int8": ["--dtype", "float32", "--quantize", "int8"], "fp8": ["--dtype", "float32", "--quantize", "fp8"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()

    def kinora(*words):
        command = [args.program, *map(str, words), "--json"]
        done = subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", **os.environ}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        def draw(way, clip):
            prompt = f"a {COLOURS[clip % 4]} {SHAPES[clip // 4 % 4]} moves {['up', 'down'][clip % 2]} on a gray background"
            output = Path(folder) / f"{'-'.join(way)}-{clip}"
            kinora("generate", prompt, *way, "--seed", clip, "--steps", args.steps, "--output", f"{output}/")
            return output

        plain = [draw(["--dtype", "float32"], clip) for clip in range(args.clips)]
        for name, way in WAYS.items():
            rows = [kinora("eval", plain[clip], draw(way, clip)) for clip in range(args.clips)]
            mean = {key: round(sum(row[key] for row in rows) / args.clips, 3) for key in ("psnr", "ssim")}
            print(json.dumps({"weights": name, "clips": args.clips, "steps": args.steps, **mean}), flush=True)


if __name__ == "__main__":
    main()
