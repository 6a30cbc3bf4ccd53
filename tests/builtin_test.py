#!/usr/bin/env python3
"""The built-in model from outside: the demo's clip is there and the judge finds held-out prompts shown.

usage: builtin_test.py KINORA
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROMPT = "a red ball moves to the right on grass"  # the Makefile's
LEAST = 0.85


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "demo.mp4"
        run(program, "generate", PROMPT, "--output", clip)
        probe = run("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of", "json", "-show_entries",
                    "stream=codec_name,pix_fmt,width,height,nb_read_frames:format_tags=comment", clip)
        probe = json.loads(probe)
        stream = probe["streams"][0]
        expected = {"codec_name": "h264", "pix_fmt": "yuv420p", "width": 96, "height": 96, "nb_read_frames": "25"}
        if stream != expected:
            sys.exit(f"demo.mp4 is {stream}, not {expected}")
        told = json.loads(probe["format"]["tags"]["comment"])
        if (told["prompt"], told["clip"]["frames"]) != (PROMPT, 25):
            sys.exit(f"demo.mp4 says of itself {told}")
    scores = [json.loads(line) for line in run(program, "bench", "builtin", "--split", "held-out", "--count", "48").splitlines()]
    (score,) = [s for s in scores if s["bench"] == "builtin"]
    low = {k: score[k] for k in ("colour", "shape", "motion", "background") if score[k] < LEAST}
    print(score)
    if low:
        sys.exit(f"the judge finds fewer than {LEAST:.0%} right: {low}")


main()
