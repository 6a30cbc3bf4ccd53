#!/usr/bin/env python3
"""eval and plot from outside: clips against clips, caches against the plain run, and what a cache decided as a picture.
Usage: eval_test.py PROGRAM [TEST...]
"""
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import unittest
import zlib
from xml.etree import ElementTree

from safetensors_file import write_safetensors
from tools_case import MODEL, PROGRAM, ToolsCase, png, write_clip


def write_lpips(path, channels=2, leave_out=()):
    """AlexNet's tensors of `channels` channels and the five linear layers."""
    shapes, inner = {}, 3
    for stage, (index, kernel) in enumerate(((0, 11), (3, 5), (6, 3), (8, 3), (10, 3))):
        shapes[f"features.{index}.weight"] = [channels, inner, kernel, kernel]
        shapes[f"features.{index}.bias"] = [channels]
        shapes[f"lin{stage}.model.1.weight"] = [1, channels, 1, 1]
        inner = channels
    tensors = {}
    for at, (name, shape) in enumerate(shapes.items()):
        if name in leave_out:
            continue
        count = math.prod(shape)
        values = [(7919 * i + 104729 * at) % 1009 / 1009 - 0.45 for i in range(count)]
        if not (name.startswith("features") and name.endswith("weight")):
            values = [0.2] * count
        tensors[name] = (shape, struct.pack(f"<{count}f", *values))
    write_safetensors(path, tensors)


class EvalAndPlot(ToolsCase):
    # eval

    def test_eval_gives_the_numbers_of_the_definitions(self):
        write_clip(self.work / "a", 3)
        write_clip(self.work / "b", 3, shift=51)  # red off by 0.2 in two of three frames
        found = json.loads(self.works("eval", "a", "b", "--json", "--frames"))
        mse = 0.2 ** 2 / 3
        each = 20 * math.log10(1 / math.sqrt(mse))
        self.assertEqual((found["num_frames"], found["height"], found["width"]), (3, 12, 16))
        self.assertAlmostEqual(found["psnr"], (100 + 2 * each) / 3, places=9)
        self.assertAlmostEqual(found["psnr_clip"], -10 * math.log10(mse * 2 / 3), places=9)
        self.assertEqual([f["frame"] for f in found["frames"]], [0, 1, 2])
        self.assertEqual((found["frames"][0]["psnr"], found["frames"][0]["ssim"]), (100, 1))
        # Red is flat: its SSIM is the term of the means alone; the other channels are equal.
        ux, uy = 100 / 255, 151 / 255
        red = (2 * ux * uy + 1e-4) / (ux * ux + uy * uy + 1e-4)
        self.assertAlmostEqual(found["frames"][1]["ssim"], (red + 2) / 3, places=9)
        self.assertAlmostEqual(found["ssim"], (1 + 2 * found["frames"][1]["ssim"]) / 3, places=12)

    def test_eval_names_the_variants_and_prints_a_line_a_frame(self):
        write_clip(self.work / "a", 2)
        text = self.works("eval", "a", "a", "--frames")
        self.assertEqual(text.count("frame  "), 2)
        for words in ("mean over frames", "one MSE over the whole clip", "Gaussian 11x11", "100.0000 dB", "1.000000"):
            self.assertIn(words, text)
        self.assertNotIn("frame  ", self.works("eval", "a", "a"))

    def test_eval_takes_every_kind_by_its_bytes(self):
        write_clip(self.work / "a", 4, 32, 32)
        for name, codec in (("a.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p"]), ("a.gif", [])):
            subprocess.run(["ffmpeg", "-v", "error", "-i", "a/f%04d.png", *codec, name], cwd=self.work, check=True)
        (self.work / "a.mp4").rename(self.work / "a.txt")
        for other in ("a.txt", "a.gif", "a/f%04d.png"):
            found = json.loads(self.works("eval", "a", other, "--json"))
            self.assertEqual(found["num_frames"], 4)
            self.assertGreater(found["psnr"], 15, other)

    def test_eval_of_pictures_below_the_window_has_no_ssim(self):
        (self.work / "a.png").write_bytes(png(10, 40, lambda x, y: (x, y, 0)))
        self.assertIsNone(json.loads(self.works("eval", "a.png", "a.png", "--json"))["ssim"])
        self.assertIn("none", self.works("eval", "a.png", "a.png"))

    def test_eval_refuses_clips_that_differ_and_names_both(self):
        write_clip(self.work / "a", 3)
        write_clip(self.work / "b", 2)
        write_clip(self.work / "c", 3, 17, 12)
        for other, size in (("b", "2 frames of 16x12"), ("c", "3 frames of 17x12")):
            self.refused(2, "eval", "a", other, says=["'a'", "3 frames of 16x12", f"'{other}'", size])

    def test_eval_refuses_what_is_no_clip(self):
        write_clip(self.work / "a", 2, 64, 64)
        for name, codec in (("a.mp4", ["-c:v", "libx264"]), ("a.gif", [])):
            subprocess.run(["ffmpeg", "-v", "error", "-i", "a/f%04d.png", *codec, name], cwd=self.work, check=True)
        (self.work / "a.png").write_bytes((self.work / "a" / "f0000.png").read_bytes())
        for name in ("a.png", "a.gif", "a.mp4"):
            whole = (self.work / name).read_bytes()
            for length in (0, 3, 11, 40, len(whole) // 2, len(whole) - 1 if name != "a.mp4" else len(whole) // 3):
                with self.subTest(name=name, length=length):
                    (self.work / "cut").write_bytes(whole[:length])
                    self.refused(65, "eval", "cut", "a", says="cut")
        (self.work / "text.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
        (self.work / "sound.mp4").write_bytes(b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(64))
        (self.work / "empty").mkdir()
        self.refused(65, "eval", "text.mp4", "a", says="text.mp4")
        self.refused(65, "eval", "sound.mp4", "a", says="sound.mp4")
        self.refused(2, "eval", "empty", "a", says="no .png")
        self.refused(2, "eval", "a", "nowhere.mp4", says="nowhere.mp4")
        self.refused(2, "eval", "a", "nowhere_%d.png", says="nowhere_%d.png")
        self.refused(2, "eval", "/dev/zero", "a", says="/dev/zero")
        self.refused(2, "eval", "a", says="--help")

    def test_eval_refuses_pictures_over_the_limits_before_it_takes_memory(self):
        huge = png(1, 1, lambda x, y: (0, 0, 0))
        for width, height in ((100_000, 1), (8192, 8192)):
            header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
            (self.work / "huge.png").write_bytes(huge[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + huge[33:])
            self.refused(65, "eval", "huge.png", "huge.png", says="huge.png")

    def test_eval_of_mp4_without_ffmpeg_says_what_is_missing(self):
        (self.work / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(64))
        self.refused(69, "eval", "a.mp4", "a.mp4", says="ffmpeg", env={"PATH": "/nonexistent"})

    def test_eval_with_lpips_weights(self):
        write_clip(self.work / "a", 2, 40, 36)
        write_clip(self.work / "b", 2, 40, 36, shift=100)
        write_lpips(self.work / "w.safetensors")
        found = json.loads(self.works("eval", "a", "b", "--lpips", "w.safetensors", "--json", "--frames"))
        each = [frame["lpips"] for frame in found["frames"]]
        self.assertEqual(each[0], 0)
        self.assertGreater(each[1], 0)
        self.assertAlmostEqual(found["lpips"], sum(each) / 2, places=9)
        self.assertIn("AlexNet", found["definitions"]["lpips"])
        self.assertIn("LPIPS", self.works("eval", "a", "b", "--lpips", ".", "--frames"))
        self.assertNotIn("LPIPS", self.works("eval", "a", "b"))

    def test_eval_refuses_lpips_weights_that_do_not_fit(self):
        write_clip(self.work / "a", 1, 40, 36)
        write_clip(self.work / "small", 1, 30, 36)
        write_lpips(self.work / "w.safetensors")
        write_lpips(self.work / "part.safetensors", leave_out=["lin3.model.1.weight"])
        self.refused(65, "eval", "a", "a", "--lpips", "part.safetensors", says=["lin3.model.1.weight", "docs/cli.md"])
        self.refused(2, "eval", "a", "a", "--lpips", "nowhere", says="nowhere")
        self.refused(2, "eval", "small", "small", "--lpips", "w.safetensors", says=["30x36", "31"])

    def rows(self, *args):
        done = self.run_it("eval", *args, "--json", env={"KINORA_MODEL": str(MODEL)})
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_eval_of_caches_over_prompts(self):
        prompts = ["a red ball moves to the right on grass", "a blue square moves up on a gray background"]
        (self.work / "prompts.txt").write_text("\n".join(prompts))
        write_lpips(self.work / "w.safetensors")
        run, *rows = self.rows("--prompts", "prompts.txt", "--cache", "pab", "--cache", "none", "--steps", "6", "--seed", "7",
                               "--repeats", "2", "--lpips", "w.safetensors")
        self.assertEqual((run["eval"], run["prompts"], run["steps"], run["repeats"], run["lpips"]), ("run", 2, 6, 2, "AlexNet"))
        self.assertEqual([(r["eval"], r["cache"]) for r in rows],
                         [(e, c) for e in ("prompt", "prompt", "mean") for c in ("plain", "pab", "none")])
        self.assertEqual([(r["prompt"], r["seed"]) for r in rows[:6:3]], [(prompts[0], 7), (prompts[1], 8)])
        self.assertTrue(all(r["seconds"] > 0 for r in rows))
        for equal in rows[2::3]:
            self.assertEqual((equal["psnr"], equal["ssim"], equal["lpips"], equal["hits"]), (100, 1, 0, {}))
        for pab in rows[1:6:3]:
            self.assertLess(pab["psnr"], 100)
            self.assertGreater(sum(h["reused"] for h in pab["hits"].values()), 0)
        # Of weights that were drawn a small difference may reach no feature, and last bits are the processor's.
        self.assertGreater(rows[7]["lpips"], 0)
        self.assertAlmostEqual(rows[7]["psnr"], (rows[1]["psnr"] + rows[4]["psnr"]) / 2, places=9)
        self.assertEqual(rows[7]["psnr_least"], min(rows[1]["psnr"], rows[4]["psnr"]))
        self.assertAlmostEqual(rows[7]["speedup"], (rows[0]["seconds"] + rows[3]["seconds"]) / (rows[1]["seconds"] + rows[4]["seconds"]), places=6)
        # The same as two clips that generate made.
        for name, more in (("plain", []), ("cached", ["--cache", "pab"])):
            done = self.run_it("generate", prompts[1], "--steps", "6", "--seed", "8", "--output", name + "/", *more,
                               env={"KINORA_MODEL": str(MODEL)})
            self.assertEqual(done.returncode, 0, done.stderr)
        two = json.loads(self.works("eval", "plain", "cached", "--lpips", "w.safetensors", "--json"))
        for key in ("psnr", "psnr_clip", "ssim", "lpips"):
            self.assertAlmostEqual(two[key], rows[4][key], places=6)

    def test_eval_of_caches_takes_prompts_of_the_world_and_prints_a_table(self):
        done = self.run_it("eval", "--cache", "pab:mlp=off", "--count", "2", "--steps", "3", env={"KINORA_MODEL": str(MODEL)})
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertIn("3 steps", lines[0])
        self.assertEqual([line.split()[0] for line in lines[2:]],
                         ["cache", "1", "plain", "pab:mlp=off", "2", "plain", "pab:mlp=off", "mean", "plain", "pab:mlp=off"])
        self.assertIn("spatial", lines[5])
        self.assertEqual(len({line.index("x") for line in lines if "pab:mlp" in line}), 1)

    def test_eval_of_caches_refuses_before_it_makes_a_clip(self):
        env = {"KINORA_MODEL": str(MODEL)}
        (self.work / "none.txt").write_text("# nothing\n")
        write_lpips(self.work / "w.safetensors")
        self.refused(2, "eval", says=["nothing to compare", "--help"])
        self.refused(2, "eval", "--prompts", "none.txt", says="--cache")
        self.refused(2, "eval", "a", "b", "--cache", "pab", says="--cache")
        self.refused(2, "eval", "--frames", "--cache", "pab", says="--cache")
        self.refused(65, "eval", "--cache", "pab", "--prompts", "none.txt", says="no prompt", env=env)
        self.refused(2, "eval", "--cache", "pab", "--cache", "magic", says="magic", env=env)
        self.refused(2, "eval", "--cache", "pab", "--height", "24", "--width", "64", "--lpips", "w.safetensors", says="24", env=env)
        self.refused(2, "eval", "--cache", "pab", "--repeats", "0", says="--repeats", env=env)
        shutil.copytree(MODEL, self.work / "model")
        (self.work / "model" / "world.json").unlink()
        self.refused(2, "eval", "--cache", "pab", "-m", "model", says="--prompts FILE")

    def test_eval_of_caches_that_is_ended_keeps_its_rows(self):
        run = subprocess.Popen([PROGRAM, "eval", "--cache", "none", "--count", "1000", "--steps", "2", "--json"], cwd=self.work,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "KINORA_MODEL": str(MODEL)})
        rows = [json.loads(run.stdout.readline()) for _ in range(4)]
        run.send_signal(signal.SIGINT)
        rest, words = run.communicate(timeout=120)
        self.assertEqual(run.returncode, 130, words)
        rows += [json.loads(line) for line in rest.splitlines()]
        self.assertEqual([r["eval"] for r in rows], ["run"] + ["prompt"] * (len(rows) - 1))

    # plot

    def trace(self, lines):
        (self.work / "t.jsonl").write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))

    def test_plot_draws_the_trace_of_a_run(self):
        done = self.run_it("generate", "a red ball", "--steps", "6", "--cache", "pab", "--trace", "t.jsonl", "--output", "o.gif",
                           env={"KINORA_MODEL": str(MODEL)})
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line) for line in (self.work / "t.jsonl").read_text().splitlines()]
        self.assertEqual(self.works("plot", "t.jsonl"), "t.svg\n")
        text = (self.work / "t.svg").read_text()
        root = ElementTree.fromstring(text)
        words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        for what in {line["what"] for line in lines}:
            ours = [line for line in lines if line["what"] == what]
            self.assertIn(f"{what}: {sum(line['reused'] for line in ours)} of {len(ours)} reused", words)
        cells = {p.get("class"): p.get("d").count("M") for p in root.iter("{http://www.w3.org/2000/svg}path")}
        reused = sum(line["reused"] for line in lines)
        self.assertEqual(cells, {"computed": len(lines) - reused, "reused": reused})
        for word in ("model call", "timestep", "computed", "reused"):
            self.assertIn(word, words)

    def test_plot_draws_a_change_that_was_measured(self):
        self.trace([{"call": c, "timestep": 1000 - 100 * c, "what": "blocks", "path": "blocks", "reused": c == 2,
                     **({"change": 0.1 / c} if c else {})} for c in range(4)])
        self.works("plot", "t.jsonl", "--output", "x.svg")
        root = ElementTree.parse(self.work / "x.svg").getroot()
        curves = [p.get("d") for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class").startswith("curve")]
        self.assertEqual([(d.count("M"), d.count("L")) for d in curves], [(1, 2)])
        self.assertIn("measured change", (self.work / "x.svg").read_text())

    def test_plot_draws_memory_over_time(self):
        self.trace([{"way": way, "seconds": [0, 0.1, 0.2], "bytes": [1e6, top, 2e6]} for way, top in (("plain", 9e6), ("in pieces", 3e6))])
        self.works("plot", "t.jsonl")
        words = (self.work / "t.svg").read_text()
        for word in ("plain", "in pieces", "MB"):
            self.assertIn(word, words)
        for bad in ({"way": "plain", "seconds": [0], "bytes": [1, 2]}, {"way": "plain", "seconds": [], "bytes": []},
                    {"way": "plain", "bytes": [1]}, {"way": "plain", "seconds": [0], "bytes": [1], "x": 1}):
            self.trace([bad])
            self.refused(65, "plot", "t.jsonl", says="line 1")

    def test_plot_refuses_what_is_no_trace(self):
        good = {"call": 0, "timestep": 1000, "what": "call", "reused": False}
        for lines, says in (([], "no decision"), ([good, good, '{"call": 1,\n'], "line 3"), ([good, {"call": 1}], ["line 2", "timestep"]),
                            ([{"bench": "gemm", "gflops": 3}], ["line 1", "call"]), (["step,loss\n1,2\n"], "line 1"),
                            ([good, "\0\1\2\n"], "line 2")):
            self.trace(lines)
            self.refused(65, "plot", "t.jsonl", says=says)
            self.assertFalse((self.work / "t.svg").exists())
        self.trace([good])
        self.refused(2, "plot", "nowhere.jsonl", says="nowhere.jsonl")
        self.refused(2, "plot", "t.jsonl", "--output", "t.png", says=".svg")
        self.refused(2, "plot", "t.jsonl", "--output", "t.jsonl", says="trace")
        self.refused(69, "plot", "t.jsonl", "--output", "no/folder.svg", says="no")
        self.refused(2, "plot", says="--help")
        self.refused(65, "plot", PROGRAM, "--output", "x.svg")

    def test_help(self):
        for command in ("eval", "plot"):
            self.assertIn("Example: kinora", self.works(command, "--help"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
