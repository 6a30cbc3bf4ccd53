#!/usr/bin/env python3
"""calibrate, and what generate and plan make of it, from outside. Usage: calibrate_test.py PROGRAM [TEST...]

Works with a copy of the model in assets/shapes.
"""
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else Path("build/kinora").resolve()
MODEL = Path(__file__).resolve().parent.parent / "assets" / "shapes"
PROMPT = "a red ball moves to the right on grass"


def run_in(work, *args):
    return subprocess.run([PROGRAM, *map(str, args)], cwd=work, capture_output=True, text=True, timeout=300)


class Calibration(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = Path(tempfile.mkdtemp(prefix="kinora-calibrate-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.model = cls.work / "model"
        shutil.copytree(MODEL, cls.model)
        cls.file = cls.model / "transformer" / "calibration.json"
        cls.file.unlink(missing_ok=True)
        done = run_in(cls.work, "calibrate", "--model", cls.model, "--steps", 8, "--count", 2)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.measured = [json.loads(line) for line in done.stdout.splitlines()]

    def run_it(self, *args):
        return run_in(self.work, *args, "--model", self.model)

    def assert_refused(self, done, *words, code=2):
        self.assertEqual(done.returncode, code, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

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
        done = self.run_it("generate", PROMPT, "--steps", 8, "--seed", 3, "--quality", f"{best - 0.5:.2f}dB", "--check",
                           "--json", "--output", "a.gif")
        self.assertEqual(done.returncode, 0, done.stderr)
        row = json.loads(done.stdout)
        self.assertIn(row["cache"]["name"], [m["cache"] for m in self.measured])
        self.assertGreater(row["check"]["psnr"], 15)
        self.assertIn("in the calibration", done.stderr)
        plan = json.loads(self.run_it("plan", "--steps", 8, "--speed", "1.05x", "--json").stdout)
        self.assertGreaterEqual(plan["expected"]["speed"], 1.05)

    def test_a_planned_run_computes_what_it_says(self):
        done = self.run_it("generate", PROMPT, "--steps", 8, "--cache", "planned:calls=3", "--json", "--output", "b.gif")
        self.assertEqual(json.loads(done.stdout)["cache"]["hits"], {"call": {"computed": 3, "reused": 5}}, done.stderr)

    def test_what_was_not_measured_is_refused(self):
        generate = ("generate", PROMPT, "--output", "c.gif", "--steps")
        self.assert_refused(self.run_it(*generate, 8, "--quality", "500dB"), "no cache reaches", "the most that was measured")
        self.assert_refused(self.run_it(*generate, 8, "--speed", "100x"), "no cache reaches")
        self.assert_refused(self.run_it(*generate, 9, "--speed", "2x"), "kinora calibrate --steps 9")
        self.assert_refused(self.run_it(*generate, 9, "--cache", "planned"), "kinora calibrate --steps 9")
        self.assert_refused(self.run_it(*generate, 8, "--cache", "planned:calls=99"), "calls")
        self.assert_refused(self.run_it(*generate, 8, "--quality", "fine"), "30dB")
        self.assert_refused(self.run_it(*generate, 8, "--quality", "30dB", "--speed", "2x"), "leave one of them out")
        self.assert_refused(self.run_it(*generate, 8, "--cache", "pab", "--speed", "2x"), "leave one of them out")
        self.assert_refused(self.run_it(*generate, 8, "--check"), "--cache auto")
        self.assertFalse((self.work / "c.gif").exists())

    def test_a_calibration_of_other_weights_or_a_damaged_one_is_refused(self):
        whole = self.file.read_text()
        self.addCleanup(self.file.write_text, whole)
        other = json.loads(whole)
        other["weights"] ^= 1
        self.file.write_text(json.dumps(other))
        self.assert_refused(self.run_it("generate", PROMPT, "--steps", 8, "--cache", "mag", "--output", "d.gif"),
                            "other weights", "kinora calibrate")
        plain = self.run_it("generate", PROMPT, "--steps", 2, "--output", "d.gif")
        self.assertEqual(plain.returncode, 0, "a run without a cache does not look at it: " + plain.stderr)
        self.file.write_text(whole[: len(whole) // 2])
        self.assert_refused(self.run_it("generate", PROMPT, "--steps", 8, "--cache", "mag", "--output", "e.gif"),
                            "calibration.json", code=65)

    def test_prompts_of_a_model_without_a_world_must_be_given(self):
        bare = self.work / "bare"
        shutil.copytree(self.model, bare)
        (bare / "world.json").unlink()
        (bare / "transformer" / "calibration.json").unlink()
        self.assert_refused(run_in(self.work, "calibrate", "--model", bare, "--steps", 4), "--prompts FILE")
        (self.work / "prompts.txt").write_text(PROMPT + "\n")
        done = run_in(self.work, "calibrate", "--model", bare, "--steps", 4, "--prompts", "prompts.txt", "--guidance-scale", 1)
        self.assert_refused(done, "guidance")
        self.assertFalse((bare / "transformer" / "calibration.json").exists())


unittest.main()
