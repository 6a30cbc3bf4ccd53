#!/usr/bin/env python3
"""Public systems beside Kinora on the same work: whole runs of both in turn, the best time of each.

  bench/peers/compare.py build/kinora --layers 4 --only cogvideox t5

Prints a JSON line for each peer and dtype; "ratio" is Kinora's best time over the peer's, so below 1 Kinora is faster. Exit code 1
where a peer failed or did other work than Kinora; the others still run.
"""
import argparse
import json
import os
import subprocess
import sys
from typing import NamedTuple

FOLDER = os.path.dirname(os.path.abspath(__file__))
INSTALLED = os.path.join(FOLDER, "..", "..", ".peers", "bin", "python")


class Peer(NamedTuple):
    system: str
    kinora: str  # the command of `kinora bench`
    sizes: dict  # the options that both sides get
    has_layers: bool = True
    slack: float = 0.03  # of the FLOPs: VideoSys also embeds the padding of a caption


CLIP = {"latent": [5, 32, 32], "batch": 2}  # 256x256, 17 frames, both branches of guidance
PEERS = {
    "stdit3_eager": Peer("eager PyTorch", "dit", {**CLIP, "text_tokens": 120}),
    "stdit3_videosys": Peer("VideoSys", "dit", {**CLIP, "text_tokens": 120}),
    "cogvideox": Peer("diffusers", "cogvideox", {**CLIP, "text_tokens": 226}),
    "t5": Peer("transformers", "t5", {"batch": 2, "text_tokens": 226}),
    "autoencoder_kl": Peer("diffusers", "autoencoder", {"clip": [1, 256, 256]}, has_layers=False),
    # diffusers makes keys and values of the caption once for each frame.
    "latte": Peer("diffusers", "latte", {"latent": [16, 32, 32], "batch": 2, "text_tokens": 120}, slack=0.05),
    "wan": Peer("diffusers", "wan", {**CLIP, "text_tokens": 512}),
}


class Failure(Exception):
    pass


def words(options):
    for name, value in options.items():
        yield "--" + name.replace("_", "-")
        yield from map(str, value if isinstance(value, list) else [value])


def last_json(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_same_work(ours, theirs, slack):
    if ours["parameters"] != theirs["parameters"]:
        raise Failure(f"not the same model: Kinora has {ours['parameters']} parameters, the peer {theirs['parameters']}")
    if abs(ours["gflop"] / theirs["gflop"] - 1) > slack:
        raise Failure(f"not the same work: Kinora multiplies {ours['gflop']:.1f} GFLOP in a call, the peer {theirs['gflop']:.1f}")


def best(runs):
    return min(runs, key=lambda run: run["seconds"])


def compare(name, dtype, o):
    peer = PEERS[name]
    sizes = {"layers": o.layers, **peer.sizes} if peer.has_layers else peer.sizes
    options = list(words({**sizes, "dtype": dtype, "threads": o.threads, "repeats": o.repeats}))
    theirs_command = [o.python, os.path.join(FOLDER, name + ".py"), *options]
    if name == "stdit3_videosys":
        theirs_command += ["--videosys", o.videosys]
    environment = dict(os.environ, OMP_NUM_THREADS=str(o.threads), MKL_NUM_THREADS=str(o.threads), HF_HUB_OFFLINE="1")
    ours, theirs = [], []
    for _ in range(o.rounds):
        ours.append(last_json([o.kinora, "bench", peer.kinora, *options], environment))
        theirs.append(last_json(theirs_command, environment))
        check_same_work(ours[0], theirs[0], peer.slack)
    own, fastest = best(ours), best(theirs)
    return {"bench": "peers", "model": fastest["model"], "peer": peer.system, "versions": fastest["versions"], **sizes, "dtype": dtype,
            "threads": o.threads, "rounds": o.rounds, "repeats": o.repeats, "parameters": fastest["parameters"], "gflop": fastest["gflop"],
            "kinora_seconds": own["seconds"], "kinora_ratio_to_gemm_floor": own["ratio_to_gemm_floor"],
            "peer_seconds": fastest["seconds"], "peer_ratio_to_gemm_floor": fastest["ratio_to_gemm_floor"],
            "ratio": own["seconds"] / fastest["seconds"], "all_kinora_seconds": [run["seconds"] for run in ours],
            "all_peer_seconds": [run["seconds"] for run in theirs]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinora", help="the program, build/kinora")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--videosys", metavar="DIR", help="a checkout of VideoSys, which holds videosys/")
    parser.add_argument("--python", default=os.path.normpath(INSTALLED), help="the Python that has the peers")
    parser.add_argument("--layers", type=int, default=2, help="blocks of every transformer (of STDiT3: pairs of them)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtypes", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls in a run, after one that warms up")
    o = parser.parse_args()
    if not os.access(o.python, os.X_OK):
        sys.exit(f"peers: no {o.python}\n`make bench-peers` installs the public systems there")
    chosen = [name for name in o.only if name != "stdit3_videosys" or o.videosys]
    if "stdit3_videosys" in o.only and not o.videosys:
        print("peers: VideoSys is left out: --videosys DIR names a checkout of it (make bench-peers VIDEOSYS=DIR)", file=sys.stderr)
    failed = False
    for name, dtype in ((name, dtype) for name in chosen for dtype in o.dtypes):
        print(f"peers: {name}, {dtype}", file=sys.stderr, flush=True)
        try:
            print(json.dumps(compare(name, dtype, o)), flush=True)
        except Failure as failure:
            failed = True
            print(f"peers: {name}: {failure}", file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
