#!/usr/bin/env python3
"""Kinora's STDiT3-XL/2 against the same model in eager PyTorch: whole runs of both in turn, the best time of each.

  python3 bench/peers/compare_stdit3.py build/kinora --layers 4 --threads 1

Prints a JSON line for each dtype; "ratio" is Kinora's best time over PyTorch's, so below 1 Kinora is faster.
"""
import argparse
import importlib.util
import json
import os
import subprocess
import sys

EAGER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stdit3_eager.py")
GUIDED_CLIP = {"latent": [5, 32, 32], "batch": 2, "text_tokens": 120}  # 256x256, 17 frames, both branches of guidance


def last_json(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(o, dtype):
    shape = ["--layers", o.layers, "--batch", GUIDED_CLIP["batch"], "--text-tokens", GUIDED_CLIP["text_tokens"],
             "--latent", *GUIDED_CLIP["latent"], "--dtype", dtype, "--threads", o.threads, "--repeats", o.repeats]
    shape = [str(word) for word in shape]
    environment = dict(os.environ, OMP_NUM_THREADS=str(o.threads), MKL_NUM_THREADS=str(o.threads))
    kinora, eager = [], []
    for _ in range(o.rounds):
        kinora.append(last_json([o.kinora, "bench", "dit", *shape], environment))
        eager.append(last_json([sys.executable, EAGER, *shape], environment))
    best = min(kinora, key=lambda run: run["seconds"])
    ours, theirs = best["seconds"], min(run["seconds"] for run in eager)
    return {"bench": "compare_stdit3", "dtype": dtype, "layers": o.layers, "threads": o.threads, "rounds": o.rounds, "repeats": o.repeats,
            **GUIDED_CLIP, "kinora_seconds": ours, "eager_seconds": theirs, "ratio": ours / theirs, "torch": eager[0]["torch"],
            "gflop": best["gflop"], "ratio_to_gemm_floor": min(run["ratio_to_gemm_floor"] for run in kinora),
            "all_kinora_seconds": [run["seconds"] for run in kinora], "all_eager_seconds": [run["seconds"] for run in eager]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinora", help="the program, build/kinora")
    parser.add_argument("--layers", type=int, default=28, help="pairs of blocks; the published model has 28")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls in a run, after one that warms up")
    o = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"{sys.executable} has no torch\npip install torch==2.11.0 numpy")
    for dtype in o.dtypes:
        print(json.dumps(compare(o, dtype)), flush=True)


if __name__ == "__main__":
    main()
