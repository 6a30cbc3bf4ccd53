"""What the tests of the program from outside share: a model of a few thousand weights, a folder for each test, and ways to run it."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tiny_model import TINY

PROGRAM = Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else Path("build/kinora").resolve()


class ProgramCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="kinora-program-"))
        (cls.home / "tiny.json").write_text(json.dumps(TINY))
        done = subprocess.run([PROGRAM, "train", "tiny.json", "--output", "run", "--threads", "2"], cwd=cls.home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        cls.model = cls.home / "run" / "model"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.home)

    def setUp(self):
        self.work = Path(tempfile.mkdtemp(dir=self.home))

    def run_it(self, *args, env=None):
        return subprocess.run([PROGRAM, *args], cwd=self.work, capture_output=True, env={**os.environ, **(env or {})}, timeout=300)

    def refused(self, code, *args, says="", env=None, leaves=()):
        """The command ends with this code and at most three lines that hold `says`; no other file than `leaves` appears."""
        done = self.run_it(*args, env=env)
        words = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, words)
        self.assertTrue(words.startswith("kinora: "), words)
        self.assertLessEqual(len(words.splitlines()), 3, words)
        self.assertIn(says, words)
        self.assertEqual(sorted(p.name for p in self.work.iterdir()), sorted(leaves), words)
        return words

    def begin(self, *args, says, **options):
        """Starts the command and waits for a line of it that holds `says`."""
        begun = subprocess.Popen([PROGRAM, *args], cwd=self.work, stderr=subprocess.PIPE, **options)
        self.addCleanup(begun.kill)  # a test that fails leaves no long run behind
        seen = []
        for line in begun.stderr:
            seen.append(line)
            if says in line:
                return begun
        self.fail(f"ended with {begun.wait()} before it said {says}: {seen}")

    def copy_model(self):
        shutil.copytree(self.model, self.work / "model")
        return self.work / "model"

    def make(self, *args, code=0):
        """generate with the tiny model, one line of JSON for each clip."""
        done = self.run_it("generate", *args, "--model", self.model, "--json", "--threads", "1")
        self.assertEqual(done.returncode, code, done.stderr.decode(errors="replace"))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def write_png(self, name, width=40, height=20, frames=1):
        """A picture from another program."""
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc=size={width}x{height}:rate=8", "-frames:v", str(frames), name],
                       cwd=self.work, check=True)
        return name

    def files(self):
        return sorted(p.name for p in self.work.iterdir())
