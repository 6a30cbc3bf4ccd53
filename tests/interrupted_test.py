#!/usr/bin/env python3
"""What ends a run from outside: Ctrl-C, a closed terminal, kill -9, a file that is cut, a reader that goes away; and what is left to go
on with. Usage: interrupted_test.py PROGRAM [TEST...]
"""
import json
import os
import random
import signal
import subprocess
import time
import unittest

from program_case import PROGRAM, ProgramCase
from tiny_model import TINY


class Interrupted(ProgramCase):
    def test_ctrl_c_ends_within_a_step_and_leaves_nothing(self):
        for kind in ("out.mp4", "out.gif"):
            begun = self.begin("generate", "a red ball", "--model", self.model, "--steps", "9999", "--output", kind, says=b"denoise")
            time.sleep(0.3)
            begun.send_signal(signal.SIGINT)
            start = time.monotonic()
            words = begun.communicate(timeout=60)[1]
            self.assertEqual(begun.returncode, 130, words)
            self.assertIn(b"kinora: cancelled", words)
            self.assertLess(time.monotonic() - start, 10)
            self.assertEqual(list(self.work.iterdir()), [])

    def test_a_cancelled_job_says_how_to_go_on_and_refuses_other_settings(self):
        args = ["generate", "a red ball", "--model", self.model, "--steps", "3000", "--checkpoint-every", "1", "--output", "x.gif"]
        begun = self.begin(*args, says=b"denoise")
        time.sleep(0.3)
        begun.send_signal(signal.SIGINT)
        words = begun.communicate(timeout=60)[1]
        self.assertEqual(begun.returncode, 130, words)
        self.assertIn(b"--resume", words)
        self.assertEqual(self.files(), ["x.gif.job"])
        self.refused(2, *args, says="--resume", leaves=["x.gif.job"])
        self.refused(2, *args, "--resume", "--guidance-scale", "2", says="guidance_scale", leaves=["x.gif.job"])
        self.refused(2, *args, "--resume", "--seed", "2000000", says="seed", leaves=["x.gif.job"])
        (self.work / "x.gif.job").write_bytes((self.work / "x.gif.job").read_bytes()[:-9])
        self.refused(65, *args, "--resume", says="x.gif.job", leaves=["x.gif.job"])
        self.refused(2, "generate", "a", "--model", self.model, "--checkpoint-every", "often", says="60s", leaves=["x.gif.job"])

    def test_a_job_killed_at_any_time_goes_on_to_the_same_bytes(self):
        args = ["generate", "--prompt", "a red ball", "--prompt", "a blue ball", "--prompt", "a ball", "--batch", "2", "--seed", "3", "--steps", "300",
                "--loops", "2", "--condition-edit", "0.4", "--model", self.model, "--threads", "1", "--checkpoint-every", "1", "--output"]
        whole = self.run_it(*args, "want.gif")
        self.assertEqual(whole.returncode, 0, whole.stderr)
        chance = random.Random(5)
        kills = 0
        while True:  # each run goes on where the one before was killed
            begun = subprocess.Popen([PROGRAM, *args, "x.gif", "--resume"], cwd=self.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                words = begun.communicate(timeout=chance.uniform(0.3, 1.2) if kills < 12 else 300)[1]
                break
            except subprocess.TimeoutExpired:
                begun.kill()
                begun.communicate()
                kills += 1
        self.assertEqual(begun.returncode, 0, words)
        self.assertGreater(kills, 0)
        for i in range(3):
            self.assertEqual((self.work / f"x-{i}.gif").read_bytes(), (self.work / f"want-{i}.gif").read_bytes())
        self.assertEqual([n for n in self.files() if not n.startswith(".")], [f"{n}-{i}.gif" for n in ("want", "x") for i in range(3)])
        self.assertFalse((self.work / "x.gif.job").exists())

    def begin_long_training(self, folder, **options):
        long = json.loads(json.dumps(TINY))
        long["stages"]["spatial"]["steps"] = 100_000
        (self.work / "long.json").write_text(json.dumps(long))
        return self.begin("train", "long.json", "--output", folder, says=b"spatial", **options)

    def test_ctrl_c_and_a_closed_terminal_end_training_with_a_checkpoint(self):
        for end in (signal.SIGINT, signal.SIGHUP):
            begun = self.begin_long_training(end.name)
            begun.send_signal(end)
            words = begun.communicate(timeout=60)[1]
            self.assertEqual(begun.returncode, 130, words)
            self.assertTrue(list((self.work / end.name / "spatial").glob("step-*.safetensors")))

    def test_training_under_nohup_outlives_the_terminal(self):
        begun = self.begin_long_training("out", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        begun.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.assertIsNone(begun.poll())
        begun.send_signal(signal.SIGINT)
        words = begun.communicate(timeout=60)[1]
        self.assertEqual(begun.returncode, 130, words)

    def test_weights_cut_while_they_are_in_use(self):
        model = self.copy_model()
        begun = self.begin("generate", "a red ball", "--model", model, "--steps", "9999", "--dtype", "bfloat16", "--output", "x.gif",
                           says=b"denoise")
        os.truncate(next((model / "transformer").glob("*.safetensors")), 0)
        words = begun.communicate(timeout=120)[1]
        self.assertEqual(begun.returncode, 65, words)
        self.assertIn(b"cut short", words)
        self.assertEqual([p.name for p in self.work.iterdir()], ["model"])

    def test_a_reader_that_goes_away_leaves_the_clip_and_no_temporary(self):
        begun = self.begin("generate", "a red ball", "--model", self.model, "--steps", "300", "--output", "out.mp4", says=b"denoise")
        begun.stderr.close()
        self.assertEqual(begun.wait(timeout=120), 0)
        self.assertEqual([p.name for p in self.work.iterdir()], ["out.mp4"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
