#!/usr/bin/env python3
"""Trains, kills the program at random moments and resumes: what comes out is the bytes of a run that nobody killed.

  python3 tests/kill_test.py build/kinora [KILLS]
"""
import copy
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tiny_model import TINY

PROGRAM = Path(sys.argv[1]).resolve()
KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 6
STEPS = 40

config = copy.deepcopy(TINY)
config["stages"]["denoiser"]["steps"] = STEPS
config["stages"]["denoiser"]["picture_every"] = 7
config["stages"]["denoiser"]["given_every"] = 3
for stage in ("spatial", "temporal", "denoiser"):
    config["stages"][stage]["checkpoint_seconds"] = 0  # at every step: most kills then fall into a checkpoint


def begin(folder):
    return subprocess.Popen([PROGRAM, "train", "tiny.json", "--output", folder, "--threads", "1", "--samples", "0"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def steps_done(folder):
    """Of the denoiser, as its checkpoints on the disk say."""
    return max((int(p.stem[5:]) for p in Path(folder, "denoiser").glob("step-*.json")), default=0)


def fail(message):
    print("kill_test:", message)
    sys.exit(1)


def main():
    chance = random.Random(2)
    reference = begin("whole")
    began = time.monotonic()
    words = reference.communicate(timeout=300)[1].decode()
    if reference.returncode != 0:
        fail(f"the run that nobody kills ends with {reference.returncode}: {words}")
    whole, longest = files(Path("whole")), time.monotonic() - began

    kills, rounds, folder = 0, 0, None
    while kills < KILLS or folder is not None:
        if folder is None:
            folder, rounds, done_before = f"run{rounds}", rounds + 1, 0
        run = begin(folder)
        if kills < KILLS:
            time.sleep(chance.uniform(0.0, 0.7 * longest))
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
        words = run.communicate(timeout=300)[1].decode()
        if run.returncode not in (0, -signal.SIGKILL):
            fail(f"after {kills} kills a resume ends with {run.returncode}: {words}")
        done = steps_done(folder)
        if done < done_before:
            fail(f"after {kills} kills the run fell back from step {done_before} to {done}")
        done_before = done
        if run.returncode == 0:
            made = files(Path(folder))
            different = sorted(name for name in whole.keys() | made.keys() if whole.get(name) != made.get(name))
            if different:
                fail(f"after {kills} kills these files differ from an uninterrupted run's: {different}")
            folder = None
        else:
            kills += 1
    print(f"kill_test: {kills} kills, {kills} valid resumes, {rounds} runs with the bytes of an uninterrupted one")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kinora-kill-") as home:
        os.chdir(home)
        Path("tiny.json").write_text(json.dumps(config))
        main()
