#!/usr/bin/env python3
"""Faults on purpose, in runs of many ranks: each run must end by itself, in time, with a named cause, and leave nothing behind.

Usage: faults.py PROGRAM STEPS_ON_RANKS [--ranks 2 4 8] [--times 10] [--only F1 F3 ...] [--short]
--short leaves out the variants of each fault, for a minute in all with one number of ranks, and gives each three times the time: it
runs among other tests.
STEPS_ON_RANKS is the program of tests/ranks. The numbers of the trials are those of docs/parallel.md.
"""
import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rank_runs import OUTER_LIMIT_S, SHARED, Bench, Run, Wrong, leftovers, processes_of, require, said


def f1_killed(bench, ranks):
    run = bench.run(ranks, "--steps", 100000)
    ids = run.process_ids()
    time.sleep(bench.chance.uniform(0, 0.5))
    rank = bench.chance.randrange(ranks)
    os.kill(ids[rank], signal.SIGKILL)
    code, _, words = run.end(within_s=5, since=time.monotonic())
    require(code != 0, "code 0")
    require(any(re.search(rf"rank {rank} .*(killed|gone)", line) for line in said(words)), "does not name rank", rank, ":", words)


def f2_fails(bench, ranks):
    faults = (("throw", 65, "this rank's file is damaged"), ("exit", None, "rank 1"), ("bug", 70, "this rank has a bug"),
              ("exit3", None, "rank 1"), ("abort", None, "rank 1"))
    for fault, code, says in bench.variants(faults, 2):
        run = bench.run(ranks, "--fault", fault, "--steps", 100000)
        got, _, words = run.end(within_s=15)
        require(got == code if code else got != 0, fault, "ended with", got, words)
        require(len(said(words)) == 1 and says in said(words)[0], fault, "was not told once:", words)


def f3_stopped(bench, ranks):
    run = bench.run(ranks, "--steps", 100000, env={"KINORA_DEADLINE": "2"})
    ids = run.process_ids()
    time.sleep(0.2)
    os.kill(ids[ranks - 1], signal.SIGSTOP)
    code, _, words = run.end(within_s=2 + 2, since=time.monotonic())
    require(code == 75, "ended with", code, words)
    require(re.search(rf"#\d+ '\w+'.* nothing from rank {ranks - 1} within 2 s; rank {ranks - 1} \(process \d+\) is stopped", words), words)


def f4_asked_to_stop(bench, ranks):
    want, _ = bench.clean_run(ranks, "--steps", 150)
    for number in bench.variants((signal.SIGTERM, signal.SIGINT)):
        state = bench.folder / f"state-{uuid.uuid4().hex}"
        run = bench.run(ranks, "--steps", 150, "--state", state)
        run.process_ids()
        time.sleep(0.3)
        run.process.send_signal(number)
        code, _, words = run.end(within_s=10, since=time.monotonic())
        require(code == 130, "ended with", code, words)
        require(0 < json.loads(state.read_text())["step"] < 150, "no checkpoint of the middle")
        got, _ = bench.clean_run(ranks, "--steps", 150, "--state", state)
        require(got == want, "resumed to", got, "not to", want)
    for number in () if bench.is_short else (signal.SIGTERM, signal.SIGINT):  # ranks_test.py stops a clip once
        output = bench.folder / f"{uuid.uuid4().hex}.gif"
        run = bench.run_generate(ranks, output, "--checkpoint-every", "1")
        run.wait_for("denoise 0/100")
        time.sleep(bench.chance.uniform(0, 0.3))
        run.process.send_signal(number)
        code, _, words = run.end(within_s=10, since=time.monotonic())
        require(code == 130 and "--resume" in words and not output.exists(), "ended with", code, words)
        bench.clean(bench.run_generate(ranks, output, "--resume"))
        require(output.read_bytes() == bench.clip, "resumed to another clip")


def f5_asked_twice(bench, ranks):
    state = bench.folder / f"state-{uuid.uuid4().hex}"
    run = bench.run(ranks, "--steps", 100000, "--state", state, "--save-ms", 20000)
    run.process_ids()
    time.sleep(0.5)
    run.process.terminate()
    time.sleep(0.5)
    before = json.loads(state.read_text())
    run.process.terminate()
    code, _, words = run.end(within_s=2, since=time.monotonic())
    require(code == 130, "ended with", code, words)
    require(json.loads(state.read_text()) == before, "the checkpoint before is not there")


def f6_launcher_killed(bench, ranks):
    run = bench.run(ranks, "--steps", 100000)
    run.process_ids()
    run.process.kill()
    run.process.wait()
    until = time.monotonic() + 10
    while processes_of(run.mark) and time.monotonic() < until:
        time.sleep(0.1)
    require(not processes_of(run.mark), "processes live on")
    bench.clean_run(ranks)  # takes away what is left


def f7_other_order(bench, ranks):
    for fault in bench.variants(("skip", "reorder", "name"), 2):
        disagree(bench, ranks, fault)


def f8_other_shape(bench, ranks):
    for fault in ("dtype", "count"):
        disagree(bench, ranks, fault)


def disagree(bench, ranks, fault):
    for check in bench.variants(("first", "always")):
        run = bench.run(ranks, "--fault", fault, "--steps", 100, env={"KINORA_COMM_CHECK": check, "KINORA_DEADLINE": "10"})
        code, out, words = run.end(within_s=15)
        require(code == 76 and out == "", fault, check, "ended with", code, words)
        views = re.findall(r"^(?:rank (\d+): )?error: ranks disagree: rank \d+ is in .*, rank \d+ in .*$", words, re.M)
        require(sorted(int(rank or 0) for rank in views) == list(range(ranks)), fault, check, "was not seen by every rank:", words)
        require(len(said(words)) == 1, fault, check, "was not told once:", words)


def f9_slow(bench, ranks):
    _, words = bench.clean_run(ranks, "--steps", 21, "--fault", "slow", "--fault-rank", ranks - 1)
    require(f"rank {ranks - 1} works 0.3" in words, "no line about the slow rank:", words)


def f10_stale(bench, ranks):
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = [SHARED / f"kinora-board-{dead.pid}-1f", SHARED / f"kinora-job-{dead.pid}-1f"]
    stale[0].write_bytes(b"\xff" * 4096)
    (stale[1] / "records").mkdir(parents=True)
    (stale[1] / "records" / "rank-0.json").write_text("{}")
    beside = bench.run(ranks, "--steps", 50)
    bench.clean_run(ranks)
    code, _, words = beside.end()
    require(code == 0, "a job beside ended with", code, words)
    require(not any(p.exists() for p in stale), "what a dead job left is still there")


def f11_no_room(bench, ranks):
    last = ranks - 1
    for fault, says in (("disk", "cannot be written"), ("memory", "out of memory")):
        run = bench.run(ranks, "--fault", fault, "--fault-rank", last, "--steps", 100000)
        code, _, words = run.end(within_s=15)
        require(code == 69, fault, "ended with", code, words)
        require(len(said(words)) == 1 and said(words)[0].startswith(f"rank {last}: ") and says in words, fault, "was not told once:", words)
    if bench.is_short:
        return
    output = bench.folder / f"{uuid.uuid4().hex}.gif"
    run = bench.run_generate(ranks, output, "--frames", "129", "--width", "256")
    run.wait_for("denoise 0/100")
    rank, pid = bench.chance.choice(sorted(run.rank_processes().items()))
    used = 1024 * int(re.search(r"VmSize:\s*(\d+)", Path("/proc", str(pid), "status").read_text()).group(1))
    resource.prlimit(pid, resource.RLIMIT_AS, 2 * (used + (2 << 20),))
    code, _, words = run.end(within_s=30, since=time.monotonic())
    require(code == 69 and not output.exists(), "ended with", code, words)
    require(len(said(words)) == 1 and said(words)[0].startswith(f"rank {rank}: " if rank else "kinora: ") and "out of memory" in words,
            "rank", rank, "without memory was not told once:", words)


def f12_misfits(bench, ranks):
    code, _, words = bench.run(ranks, "--fault", "config").end(within_s=15)
    require(code == 76 and len(said(words)) == 1, code, words)
    require(said(words)[0].startswith("kinora: ranks differ in the configuration: rank 0 has 'same', rank 1 has 'other'"), words)

    other = bench.folder / "other-build"
    if not other.exists():
        shutil.copy(bench.steps, other)
        with open(other, "ab") as f:
            f.write(b"x")
    misfits = ((f"[ $OMPI_COMM_WORLD_RANK = 1 ] && exec {other}; exec {bench.steps}", "different builds"),
               (f"OMPI_COMM_WORLD_SIZE={ranks + 1} exec {bench.steps}", f"of {ranks + 1}, but MPI has it as rank 0 of {ranks}"),
               (f"OMPI_COMM_WORLD_RANK=0 exec {bench.steps}", "but MPI has it as rank"))
    for script, says in bench.variants(misfits):
        code, _, words = Run(bench, ranks, "sh", "-c", script).end(within_s=20)
        require(code == 76 and len(said(words)) == 1 and says in said(words)[0], script, "ended with", code, words)


def f13_cycles(bench, ranks):
    for _ in range(2 if bench.is_short else 5):
        bench.clean_run(ranks, "--steps", 2)


def f14_same_result(bench, ranks):
    alone = subprocess.run([bench.steps], capture_output=True, text=True, timeout=OUTER_LIMIT_S)
    require(alone.returncode == 0, alone.stderr)
    out, _ = bench.clean_run(ranks)
    require(out == alone.stdout, "alone", alone.stdout, "together", out)
    if not bench.is_short:  # ranks_test.py compares clips
        output = bench.folder / f"{uuid.uuid4().hex}.gif"
        bench.clean(bench.run_generate(ranks, output))
        require(output.read_bytes() == bench.clip, "another clip than alone")


TRIALS = {"F1": f1_killed, "F2": f2_fails, "F3": f3_stopped, "F4": f4_asked_to_stop, "F5": f5_asked_twice,
          "F6": f6_launcher_killed, "F7": f7_other_order, "F8": f8_other_shape, "F9": f9_slow, "F10": f10_stale,
          "F11": f11_no_room, "F12": f12_misfits, "F13": f13_cycles, "F14": f14_same_result}


def title(name, ranks):
    return f"{name:4}{TRIALS[name].__name__.split('_', 1)[1]:16}{ranks} ranks"


def passes(name, bench, ranks):
    before = leftovers()
    try:
        TRIALS[name](bench, ranks)
        left = leftovers() - before
        require(not left, "left", left)
        return True
    except Wrong as wrong:
        print(f"{title(name, ranks)}: {wrong}", file=sys.stderr, flush=True)
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("steps")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    passed = {(name, ranks): [] for name in args.only for ranks in args.ranks}
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            bench = Bench(args.program, args.steps, Path(folder), args.short)
            for _ in range(args.times):  # all faults, and again: whoever stops it in the middle has seen each as often
                for name, ranks in passed:
                    begin = time.monotonic()
                    passed[name, ranks].append(passes(name, bench, ranks))
                    print(f"{title(name, ranks)}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    finally:
        for (name, ranks), each in passed.items():
            print(f"{title(name, ranks)}: {sum(each)} of {len(each)}")
    return 0 if all(all(each) for each in passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
