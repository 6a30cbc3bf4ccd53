"""Runs of many ranks, watched from outside: what they say and leave, and the model that they generate with."""
import contextlib
import functools
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from tiny_model import TINY

OUTER_LIMIT_S = 60
SHARED = Path("/dev/shm")


class Wrong(Exception):
    pass


def require(is_right, *what):
    if not is_right:
        raise Wrong(" ".join(str(w) for w in what))


def is_in_use(path):
    """By a process that lives: other jobs may run on this machine."""
    owner = re.match(r"kinora-(?:board|job)-(\d+)|pid\.(\d+)", path.name)
    if owner:
        return Path("/proc", owner.group(1) or owner.group(2)).exists()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(path) in maps.read_text():
                return True
        except OSError:
            pass
    return False


def leftovers():
    """What a job of ours or of Open MPI has left in folders that all share."""
    temporary = Path(tempfile.gettempdir())
    found = [p for folder in (SHARED, temporary) for p in folder.iterdir() if re.match(r"kinora-(board|job)-|vader_segment", p.name)]
    found += temporary.glob("ompi.*/pid.*")
    return {str(p) for p in found if not is_in_use(p)}


def processes_of(mark):
    """Processes, zombies aside, that were started with this mark in their variables."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes() and "State:\tZ" not in (entry / "status").read_text():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Run:
    """`kinora launch -n RANKS -- COMMAND`, watched from outside."""

    def __init__(self, bench, ranks, *command, env=None, launch=()):
        self.mark = "KINORA_TRIAL=" + uuid.uuid4().hex
        name, value = self.mark.split("=")
        self.words_file = tempfile.TemporaryFile("w+", errors="replace")
        self.begun = time.monotonic()
        self.ranks, self.slack = ranks, 3 if bench.is_short else 1
        self.process = subprocess.Popen([bench.program, "launch", "-n", str(ranks), *launch, "--", *map(str, command)], stdout=subprocess.PIPE,
                                        stderr=self.words_file, text=True, env={**os.environ, name: value, **(env or {})})

    def words(self):
        self.words_file.seek(0)
        return self.words_file.read()

    def wait_for(self, pattern, count=1):
        """All groups of `count` matches in what was written to standard error."""
        while time.monotonic() - self.begun < OUTER_LIMIT_S:
            found = re.findall(pattern, self.words(), re.M)
            if len(found) >= count:
                return found
            require(self.process.poll() is None, "ended before it wrote", pattern, ":", self.words())
            time.sleep(0.01)
        raise self.killed(f"did not write {pattern}")

    def killed(self, what):
        """The error of a run that does not come to its end."""
        words = self.words()
        for pid in [self.process.pid, *processes_of(self.mark)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return Wrong(f"{what}: {words}")

    def process_ids(self):
        """By rank, once all of them have joined."""
        found = self.wait_for(r"^(?:rank (\d+): )?process (\d+)$", self.ranks)
        return {int(rank or 0): int(pid) for rank, pid in found}

    def rank_processes(self):
        """By rank, of programs that do not say it."""
        found = {}
        for pid in processes_of(self.mark):
            variables = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
            found.update({int(v.split(b"=")[1]): pid for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")})
        require(len(found) == self.ranks, "ranks that run:", found)
        return found

    def end(self, within_s=None, since=None):
        """Waits, and requires that nothing is left. -> exit code, standard output, standard error."""
        try:
            out = self.process.communicate(timeout=OUTER_LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            raise self.killed("hangs") from None
        took = time.monotonic() - (since or self.begun)
        within_s = within_s and within_s * self.slack
        require(within_s is None or took <= within_s, f"took {took:.1f} s, not {within_s} s:", self.words())
        alive = processes_of(self.mark)
        require(not alive, "left processes", alive)
        return self.process.returncode, out, self.words()


class Bench:
    """What all trials run with."""

    def __init__(self, program, steps, folder, is_short):
        self.is_short = is_short
        self.program, self.steps, self.folder = Path(program).resolve(), Path(steps).resolve(), folder
        self.chance = random.Random(7)

    def variants(self, variants, count=1):
        return variants[:count] if self.is_short else variants

    @functools.cached_property
    def model(self):
        """Of a few thousand weights."""
        (self.folder / "tiny.json").write_text(json.dumps(TINY))
        done = subprocess.run([self.program, "train", "tiny.json", "--output", "tiny", "--threads", "1"], cwd=self.folder, capture_output=True, text=True)
        require(done.returncode == 0, done.stderr)
        return self.folder / "tiny" / "model"

    def generate(self, output, *args):
        """A command that makes a clip in `output`; of 64 x 32 pixels, so that 8 ranks have rows of their own."""
        return ["generate", "a red ball", "--seed", "3", "--dtype", "float32", "--height", "64", "--steps", "100", "--model", str(self.model),
                "--threads", "1", "--output", str(output), *args]

    @functools.cached_property
    def clip(self):
        """The bytes of generate by one process."""
        output = self.folder / "one.gif"
        done = subprocess.run([self.program, *self.generate(output)], capture_output=True, text=True, timeout=OUTER_LIMIT_S)
        require(done.returncode == 0, done.stderr)
        return output.read_bytes()

    def run(self, ranks, *args, **options):
        return Run(self, ranks, self.steps, *args, **options)

    def clean_run(self, ranks, *args, **options):
        return self.clean(self.run(ranks, *args, **options))

    def run_generate(self, ranks, output, *args, **options):
        return Run(self, ranks, "kinora", *self.generate(output, "--parallel", "dsp", *args), **options)

    @staticmethod
    def clean(run):
        code, out, words = run.end()
        require(code == 0, f"a run without a fault ended with {code}:", words)
        return out, words


def said(words):
    return [line for line in words.splitlines() if re.match(r"(rank \d+: )?kinora: ", line)]
