#!/usr/bin/env python3
"""calibrate, and what generate and plan make of it, from outside. Usage: calibrate_test.py PROGRAM [TEST...]

Works with a copy of the model in assets/shapes.
"""
import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tools_case import MODEL, PROGRAM, ToolsCase

PROMPT = "a red ball moves to the right on grass"


class Calibration(ToolsCase):
    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="kinora-calibrate-"))
        cls.addClassCleanup(shutil.rmtree, cls.home)
        cls.model = cls.home / "model"
        shutil.copytree(MODEL, cls.model)
        cls.file = cls.model / "transformer" / "calibration.json"
        cls.file.unlink(missing_ok=True)
        done = subprocess.run([PROGRAM, "calibrate", "--model", cls.model, "--steps", "8", "--count", "2"], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        cls.measured = [json.loads(line) for line in done.stdout.splitlines()]

    def generate(self, steps, *options):
        return ("generate", PROMPT, "--model", self.model, "--steps", str(steps), *options)

    def test_every_cache_is_measured_and_the_file_holds_it(self):
        names = {row["cache"].split(":")[0] for row in self.measured}
        self.assertLessEqual({"planned", "pab", "first-block", "tea", "easy", "mag", "taylor"}, names)
        kept = json.loads(self.file.read_text())
        (run,) = kept["runs"]
        self.assertEqual((run["steps"], len(run["schedule"]), len(run["gram"])), (8, 8, 17 * 18 // 2))
        self.assertEqual(len(run["measured"]), len(self.measured))
        nearest = {row["cache"]: row["psnr"] for row in self.measured}
        self.assertGreater(nearest["planned:calls=7"], nearest["planned:calls=2"])
        self.assertGreater(nearest["planned:calls=7"], 20)

    def test_quality_and_speed_choose_and_check_tells_what_came_of_it(self):
        best = max(row["psnr"] for row in self.measured)
        done = self.run_it(*self.generate(8, "--seed", "3", "--quality", f"{best - 0.5:.2f}dB", "--check", "--json", "--output", "a.gif"))
        self.assertEqual(done.returncode, 0, done.stderr)
        row = json.loads(done.stdout)
        self.assertIn(row["cache"]["name"], [m["cache"] for m in self.measured])
        self.assertGreater(row["check"]["psnr"], 15)
        self.assertIn("in the calibration", done.stderr)
        plan = json.loads(self.works("plan", "--model", self.model, "--steps", "8", "--speed", "1.05x", "--json"))
        self.assertGreaterEqual(plan["expected"]["speed"], 1.05)

    def test_a_planned_run_computes_what_it_says(self):
        done = self.run_it(*self.generate(8, "--cache", "planned:calls=3", "--json", "--output", "b.gif"))
        self.assertEqual(json.loads(done.stdout)["cache"]["hits"], {"call": {"computed": 3, "reused": 5}}, done.stderr)

    def test_what_was_not_measured_is_refused(self):
        for steps, options, says in ((8, ["--quality", "500dB"], ["no cache reaches", "the most that was measured"]),
                                     (8, ["--speed", "100x"], "no cache reaches"),
                                     (9, ["--speed", "2x"], "kinora calibrate --steps 9"),
                                     (9, ["--cache", "planned"], "kinora calibrate --steps 9"),
                                     (8, ["--cache", "planned:calls=99"], "calls"),
                                     (8, ["--cache", "planned", "--height", "64", "--width", "64"], "another size"),
                                     (8, ["--speed", "2x", "--guidance-scale", "1"], "guidance"),
                                     (8, ["--quality", "fine"], "30dB"),
                                     (8, ["--quality", "30dB", "--speed", "2x"], "leave one of them out"),
                                     (8, ["--cache", "pab", "--speed", "2x"], "leave one of them out"),
                                     (8, ["--check"], "--cache auto")):
            with self.subTest(options=options):
                self.refused(2, *self.generate(steps, *options, "--output", "c.gif"), says=says)
        self.assertEqual(list(self.work.iterdir()), [])

    def test_a_calibration_of_other_weights_or_a_damaged_one_is_refused(self):
        whole = self.file.read_text()
        self.addCleanup(self.file.write_text, whole)
        other = json.loads(whole)
        other["weights"] ^= 1
        self.file.write_text(json.dumps(other))
        self.refused(2, *self.generate(8, "--cache", "mag", "--output", "d.gif"), says=["other weights", "kinora calibrate"])
        plain = self.run_it(*self.generate(2, "--output", "d.gif"))
        self.assertEqual(plain.returncode, 0, "a run without a cache does not look at it: " + plain.stderr)
        self.file.write_text(whole[: len(whole) // 2])
        self.refused(65, *self.generate(8, "--cache", "mag", "--output", "e.gif"), says="calibration.json")

    def test_prompts_of_a_model_without_a_world_must_be_given(self):
        shutil.copytree(self.model, self.work / "bare")
        (self.work / "bare" / "world.json").unlink()
        file = self.work / "bare" / "transformer" / "calibration.json"
        file.unlink()
        self.refused(2, "calibrate", "--model", "bare", "--steps", "4", says="--prompts FILE")
        (self.work / "prompts.txt").write_text(PROMPT + "\n")
        self.refused(2, "calibrate", "--model", "bare", "--steps", "4", "--prompts", "prompts.txt", "--guidance-scale", "1", says="guidance")
        self.assertFalse(file.exists())


if __name__ == "__main__":
    unittest.main(verbosity=1)
