#!/usr/bin/env python3
"""The scripts of bench/ that need no PyTorch: tables from lines, and what a comparison refuses."""
import importlib.util
import json
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = "before\n<!-- peers -->\nold\n<!-- end -->\nbetween\n<!-- gemm -->\nkept\n<!-- end -->\nafter\n"
LINE = {"bench": "peers", "model": "T5", "peer": "diffusers", "dtype": "float32", "threads": 2, "layers": 3, "parameters": 2.5e8,
        "kinora_seconds": 1.2, "peer_seconds": 1.5, "ratio": 0.8, "kinora_ratio_to_gemm_floor": 1.0, "peer_ratio_to_gemm_floor": 1.25}


def load(name):
    spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tables(unittest.TestCase):
    def write(self, *lines):
        with tempfile.TemporaryDirectory() as folder:
            data, page = pathlib.Path(folder) / "bench.jsonl", pathlib.Path(folder) / "page.md"
            data.write_text("".join(json.dumps(line) + "\n" for line in lines))
            page.write_text(PAGE)
            done = subprocess.run([sys.executable, ROOT / "bench/performance.py", data, page], capture_output=True, text=True)
            return done, page.read_text()

    def test_lines_replace_their_table_and_no_other(self):
        done, page = self.write(LINE, {**LINE, "model": "Wan"})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("| T5 | diffusers | float32 | 2 | 3 | 250 | 1.20 | 1.50 | **0.800** | 1.00 | 1.25 |\n", page)
        self.assertIn("| Wan | diffusers | float32 | 2 | 3 | 250 | 1.20 | 1.50 | **0.800** | 1.00 | 1.25 |\n<!-- end -->\nbetween", page)
        self.assertIn("<!-- gemm -->\nkept\n<!-- end -->\nafter\n", page)
        self.assertNotIn("old", page)

    def test_a_line_of_no_table_is_an_error_and_changes_nothing(self):
        done, page = self.write(LINE, {"bench": "surprise"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("surprise", done.stderr)
        self.assertEqual(page, PAGE)


class CacheTable(unittest.TestCase):
    def test_plans_of_like_length_share_a_row(self):
        measured = lambda cache, speed: {"cache": cache, "speed": speed, "psnr": 40.04, "ssim": 0.98765}
        runs = [{"steps": 4, "measured": [measured("planned:calls=2", 2), measured("pab", 1.25)]},
                {"steps": 8, "measured": [measured("planned:calls=5", 1.5)]}]
        with tempfile.TemporaryDirectory() as folder:
            data, page = pathlib.Path(folder) / "calibration.json", pathlib.Path(folder) / "page.md"
            data.write_text(json.dumps({"runs": runs}))
            page.write_text("<!-- calibration -->\nold\n<!-- end -->\nafter\n")
            subprocess.run([sys.executable, ROOT / "bench/cache_table.py", data, page], check=True)
            self.assertEqual(page.read_text(), """<!-- calibration -->
| cache | 8 steps | PSNR | SSIM | 4 steps | PSNR | SSIM |
| --- | --- | --- | --- | --- | --- | --- |
| `planned:calls=5 / 2` | 1.50x | 40.0 | 0.9877 | 2.00x | 40.0 | 0.9877 |
| `pab` | - | - | - | 1.25x | 40.0 | 0.9877 |
<!-- end -->
after
""")


class Comparison(unittest.TestCase):
    def test_other_work_is_refused(self):
        compare = load("bench/peers/compare.py")
        ours = {"parameters": 10, "gflop": 100.0}
        compare.check_same_work(ours, {"parameters": 10, "gflop": 101.0}, 0.03)
        for theirs in ({"parameters": 11, "gflop": 100.0}, {"parameters": 10, "gflop": 120.0}):
            with self.assertRaisesRegex(compare.Failure, "not the same"):
                compare.check_same_work(ours, theirs, 0.03)

    def test_a_peer_that_fails_is_named_and_the_exit_code_tells(self):
        with tempfile.TemporaryDirectory() as folder:
            kinora = pathlib.Path(folder) / "kinora"
            kinora.write_text("#!/bin/sh\necho no such machine >&2\nexit 69\n")
            kinora.chmod(kinora.stat().st_mode | stat.S_IXUSR)
            done = subprocess.run([sys.executable, ROOT / "bench/peers/compare.py", kinora, "--only", "t5", "stdit3_videosys",
                                   "--python", sys.executable], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("exit code 69\nno such machine", done.stderr)
        self.assertIn("VideoSys is left out", done.stderr)

    def test_what_is_not_installed_is_said(self):
        done = subprocess.run([sys.executable, ROOT / "bench/peers/compare.py", "kinora", "--python", "nowhere/python"],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("make bench-peers", done.stderr)


if __name__ == "__main__":
    unittest.main()
