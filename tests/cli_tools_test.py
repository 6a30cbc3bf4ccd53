#!/usr/bin/env python3
"""eval, plot, plan, doctor, inspect and completion from outside. Usage: cli_tools_test.py PROGRAM [TEST...]

Works with the model in assets/shapes; nothing but Python's own library and ffmpeg is needed.
"""
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib
from pathlib import Path
from xml.etree import ElementTree

PROGRAM = Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else Path("build/kinora").resolve()
ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "assets" / "shapes"
CASES = ROOT / "tests" / "cases"


def png(width, height, pixel):
    """pixel(x, y) -> three bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_clip(folder, frames, width=16, height=12, shift=0):
    """PNG frames of which `shift` is added to the red of frame 1 on."""
    folder.mkdir()
    for f in range(frames):
        (folder / f"f{f:04d}.png").write_bytes(
            png(width, height, lambda x, y: (100 + (shift if f else 0), 5 * x % 256, (7 * y + 3 * f) % 256)))


def write_safetensors(path, names, metadata=None):
    """Float32 tensors [3] of zeros."""
    entries = {name: {"dtype": "F32", "shape": [3], "data_offsets": [12 * i, 12 * i + 12]} for i, name in enumerate(names)}
    if metadata:
        entries["__metadata__"] = metadata
    text = json.dumps(entries).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(12 * len(names)))


def write_lpips(path, channels=2, leave_out=()):
    """AlexNet's tensors of `channels` channels and the five linear layers."""
    shapes, inner = {}, 3
    for stage, (index, kernel) in enumerate(((0, 11), (3, 5), (6, 3), (8, 3), (10, 3))):
        shapes[f"features.{index}.weight"] = [channels, inner, kernel, kernel]
        shapes[f"features.{index}.bias"] = [channels]
        shapes[f"lin{stage}.model.1.weight"] = [1, channels, 1, 1]
        inner = channels
    entries, data = {}, b""
    for at, (name, shape) in enumerate(shapes.items()):
        if name in leave_out:
            continue
        count = math.prod(shape)
        values = [(7919 * i + 104729 * at) % 1009 / 1009 - 0.45 for i in range(count)]
        if not (name.startswith("features") and name.endswith("weight")):
            values = [0.2] * count
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack(f"<{count}f", *values)
    text = json.dumps(entries).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


class Tools(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp(prefix="kinora-tools-"))
        self.addCleanup(shutil.rmtree, self.work)

    def run_it(self, *args, env=None):
        return subprocess.run([PROGRAM, *args], cwd=self.work, capture_output=True, text=True, errors="replace",
                              env={**os.environ, **(env or {})}, timeout=300)

    def works(self, *args, env=None):
        done = self.run_it(*args, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def refused(self, code, *args, says=(), env=None):
        done = self.run_it(*args, env=env)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertTrue(done.stderr.startswith("kinora: "), done.stderr)
        self.assertLessEqual(len(done.stderr.splitlines()), 3, done.stderr)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.stderr)
        return done

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
            self.assertGreater(pab["lpips"], 0)
            self.assertGreater(sum(h["reused"] for h in pab["hits"].values()), 0)
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

    # plan

    def test_plan_of_the_built_in_model(self):
        begin = time.monotonic()
        found = json.loads(self.works("plan", "--json", env={"KINORA_MODEL": str(MODEL)}))
        self.assertLess(time.monotonic() - begin, 20)  # well under a second on an idle machine
        index = json.loads((MODEL / "model_index.json").read_text())["defaults"]
        self.assertEqual((found["num_frames"], found["height"], found["width"], found["steps"]),
                         (index["num_frames"], index["height"], index["width"], index["steps"]))
        self.assertTrue(found["fits"])
        self.assertEqual([s["stage"] for s in found["stages"]], ["text", "denoise", "decode"])
        self.assertEqual((found["model_calls"], found["rows_per_call"], found["batch"]), (index["steps"], 2, 1))
        channels, frames, height, width = found["latents"]
        patch = json.loads((MODEL / "transformer" / "config.json").read_text())["patch_size"]
        self.assertEqual(found["tokens"], math.prod(-(-size // p) for size, p in zip((frames, height, width), patch)))
        for stage in found["stages"]:
            self.assertGreaterEqual(stage["peak_bytes"], stage["weights_bytes"] + stage["activations_bytes"])
        self.assertGreaterEqual(found["peak_bytes"], max(s["peak_bytes"] for s in found["stages"]))

    def test_plan_follows_the_request(self):
        def plan(*options):
            return json.loads(self.works("plan", "--json", "-m", MODEL, *options))
        one, two = plan("--guidance-scale", "1", "--steps", "7"), plan("a", "--prompt", "b", "--steps", "7", "--batch", "1")
        self.assertEqual((one["model_calls"], one["rows_per_call"]), (7, 1))
        self.assertEqual((two["model_calls"], two["rows_per_call"], two["clips"]), (14, 2, 2))
        self.assertAlmostEqual(two["flops_per_call"], 2 * one["flops_per_call"])
        longer = plan("--frames", "4s", "--height", "128", "--width", "96")
        self.assertEqual((longer["num_frames"], longer["height"], longer["width"]), (102, 128, 96))
        self.assertGreater(longer["peak_bytes"], one["peak_bytes"])

    def test_plan_says_what_a_cache_keeps_and_what_a_budget_costs(self):
        def plan(*options):
            return json.loads(self.works("plan", "--json", "-m", MODEL, *options))
        pab = ("--cache", "pab:window=0..1000")
        whole, int8 = plan(*pab), plan("--cache", pab[1] + ",keep=int8")
        self.assertEqual(plan()["cache_bytes"], 0)
        self.assertIsNone(whole["cache_budget"])
        self.assertLess(int8["cache_bytes"], whole["cache_bytes"])
        within = plan(*pab, "--cache-memory", str(whole["cache_bytes"] // 2))
        budget = within["cache_budget"]
        self.assertEqual(budget["all_bytes"], whole["cache_bytes"])
        self.assertLessEqual(budget["bytes"], budget["limit_bytes"])
        self.assertTrue(0 < budget["sites_kept"] < budget["sites"] and 0 < budget["saving"] < 1, budget)
        text = self.works("plan", "-m", MODEL, *pab, "--cache-memory", str(whole["cache_bytes"] // 2))
        self.assertIn(f"kept {budget['sites_kept']} of {budget['sites']} sites", text)
        self.refused(2, "plan", "-m", MODEL, *pab, "--cache-memory", "1B", says="--cache-memory")
        self.refused(2, "plan", "-m", MODEL, "--cache-memory", "1GB", says="no cache")

    def test_plan_prints_a_table(self):
        text = self.works("plan", "-m", MODEL)
        for word in ("latents", "tokens", "model calls", "FLOP", "stage", "weights", "activations", "text", "denoise", "decode", "peak", "fits"):
            self.assertIn(word, text)

    def test_plan_of_what_does_not_fit_prints_the_table_and_names_what_does(self):
        done = self.refused(69, "plan", "-m", MODEL, "--frames", "60000", "--height", "4096", "--width", "4096", says="would fit")
        self.assertIn("no fit", done.stdout)
        done = self.refused(69, "plan", "-m", MODEL, "--memory", "1MB", "--json", says="need")
        self.assertFalse(json.loads(done.stdout)["fits"])

    def test_plan_refuses_what_generate_refuses(self):
        for option, value in (("--height", "0"), ("--frames", "0"), ("--steps", "-1"), ("--guidance-scale", "nan"), ("--memory", "much"),
                              ("--resolution", "481p"), ("--dtype", "int3"), ("--device", "gpu"), ("--frames", "")):
            with self.subTest(option=option):
                self.refused(2, "plan", "-m", MODEL, option, value)
        self.refused(2, "plan", "-m", "nowhere", says="nowhere")
        self.refused(69, "plan", "-m", MODEL, "--device", "cuda:99", says="CUDA")

    # generate

    def test_generate_without_a_prompt_explains_itself(self):
        done = self.refused(2, "generate", says=["no prompt", "kinora generate \"a red ball"])
        for words in ("--output", "--model FOLDER", "kinora plan", "--help"):
            self.assertIn(words, done.stdout)
        self.assertEqual(list(self.work.iterdir()), [])

    # doctor

    def test_doctor_tries_everything_once(self):
        done = self.run_it("doctor", "--json", env={"KINORA_MODEL": str(MODEL)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = json.loads(done.stdout)
        found = {f["name"]: f for f in report["findings"]}
        self.assertTrue(report["ok"])
        self.assertEqual(list(found), ["kinora", "libtorch", "cpu", "memory", "disk", "gpu", "ffmpeg", "model", "product", "files", "generate"])
        self.assertTrue(all(f["verdict"] in ("ok", "warn") for f in found.values()), found)
        self.assertRegex(found["libtorch"]["text"], r"^\d+\.\d+\.\d+")
        self.assertGreater(found["generate"]["facts"]["num_frames"], 0)
        self.assertGreater(found["product"]["facts"]["float32_gflops"], 0)
        self.assertEqual(list(self.work.iterdir()), [])

    def test_doctor_names_each_failure_with_a_hint(self):
        done = self.run_it("doctor", env={"KINORA_MODEL": "/nonexistent", "PATH": "/nonexistent"})
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        failed = [i for i, line in enumerate(lines) if line.startswith("fail")]
        self.assertEqual([lines[i].split()[1] for i in failed], ["ffmpeg", "model", "generate"])
        for i in failed:
            self.assertTrue(lines[i + 1].startswith(" "), lines)
        self.assertIn("apt-get install ffmpeg", done.stdout)
        self.assertEqual(lines[-1], "3 checks failed")

    def test_doctor_without_a_folder_for_temporary_files(self):
        done = self.run_it("doctor", "--json", env={"KINORA_MODEL": str(MODEL), "TMPDIR": "/nonexistent"})
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        failed = {f["name"]: f["hint"] for f in json.loads(done.stdout)["findings"] if f["verdict"] == "fail"}
        self.assertEqual(sorted(failed), ["disk", "files"])
        self.assertIn("TMPDIR", failed["disk"])

    # inspect

    def test_inspect_of_a_model_names_classes_and_what_is_known(self):
        text = self.works("inspect", MODEL, "--summary")
        for words in ("shapes: OpenSoraPipeline: kinora generate takes it", "scheduler: RFLOW", "tokenizer: T5TokenizerFast",
                      "STDiT3: kinora generate takes it", "parameters in", "together: "):
            self.assertIn(words, text)
        parts = {p["part"]: p for p in map(json.loads, self.works("inspect", MODEL, "--summary", "--json").splitlines())}
        self.assertEqual(sorted(parts), ["text_encoder", "transformer", "vae"])
        for name, part in parts.items():
            self.assertTrue(part["known"], name)
            self.assertEqual((part["files"], part["file_bytes"]),
                             (1, sum(f.stat().st_size for f in (MODEL / name).glob("*.safetensors"))))
            self.assertEqual(part["pipeline"]["components"]["scheduler"], {"class": "RFLOW", "known": True, "found": True})

    def test_inspect_of_a_model_that_is_not_known(self):
        (self.work / "transformer").mkdir()
        write_safetensors(self.work / "transformer" / "diffusion_pytorch_model.safetensors", ["a", "b"])
        (self.work / "transformer" / "config.json").write_text(json.dumps({"_class_name": "Marvel\x1b[31m3D"}))
        (self.work / "model_index.json").write_text(json.dumps({
            "_class_name": "MarvelPipeline", "_diffusers_version": "0.30", "transformer": ["diffusers", "MarvelTransformer"],
            "vae": ["diffusers", "AutoencoderKL"], "safety_checker": [None, None]}))
        text = self.works("inspect", ".", "--summary")
        self.assertIn("MarvelPipeline: not known to this build", text)
        self.assertIn("vae (its folder is missing): AutoencoderKL", text)
        self.assertIn("MarvelTransformer: not known", text)
        self.assertNotIn("\x1b", text)
        part = json.loads(self.works("inspect", ".", "--json"))
        self.assertEqual((part["params"], part["known"], part["pipeline"]["known"]), (6, False, False))

    def test_inspect_of_a_part_a_file_and_shards(self):
        self.assertIn("t5: kinora generate takes it", self.works("inspect", MODEL / "text_encoder", "--summary"))
        write_safetensors(self.work / "model-00001-of-00002.safetensors", ["a"])
        write_safetensors(self.work / "model-00002-of-00002.safetensors", ["b", "c"])
        found = json.loads(self.works("inspect", ".", "--json", "--summary"))
        self.assertEqual((found["tensors"], found["params"], found["files"]), (3, 9, 2))
        found = json.loads(self.works("inspect", "model-00002-of-00002.safetensors", "--json"))
        self.assertEqual([t["name"] for t in found["table"]], ["b", "c"])

    def test_inspect_of_a_scheduler_and_a_tokenizer(self):
        self.assertIn("a scheduler, RFLOW: kinora generate takes it", self.works("inspect", MODEL / "scheduler"))
        self.assertIn("a tokenizer", self.works("inspect", MODEL / "tokenizer"))

    def test_inspect_of_cases(self):
        text = self.works("inspect", CASES / "metrics")
        self.assertIn("psnr_float.safetensors: parity case of peak_signal_noise_ratio, frames", text)
        self.assertNotIn("not known", text)
        one = json.loads(self.works("inspect", CASES / "metrics" / "psnr_float.safetensors", "--json"))
        self.assertEqual((one["case"]["class"], one["case"]["known"]), ("peak_signal_noise_ratio", True))
        write_safetensors(self.work / "x.safetensors", ["a"], {"case": json.dumps({"cls": "Marvel", "call": {"method": 3}})})
        self.assertIn("Marvel, forward, from ; not known", self.works("inspect", "x.safetensors"))
        write_safetensors(self.work / "x.safetensors", ["a"], {"case": "lower"})
        self.assertNotIn("case of", self.works("inspect", "x.safetensors"))

    def test_inspect_of_a_training_run(self):
        (self.work / "config.json").write_text(json.dumps({"world": {}, "stages": {"spatial": {"steps": 40}, "denoiser": {"steps": 9}}}))
        self.assertIn("no checkpoint yet", self.works("inspect", "."))
        (self.work / "spatial").mkdir()
        for step in (10, 20):
            write_safetensors(self.work / "spatial" / f"step-{step}.safetensors", ["a"])
        text = self.works("inspect", ".")
        self.assertIn("spatial: step 20 of 40, 2 checkpoints", text)
        found = json.loads(self.works("inspect", ".", "--json", "--summary"))
        self.assertEqual(found["stages"], [{"stage": "spatial", "checkpoints": 2, "newest_step": 20, "steps": 40}])

    def test_inspect_of_another_folder_says_what_is_in_it_and_what_is_known(self):
        for name in ("a.txt", "b.txt", "c.jpg", "README"):
            (self.work / name).write_text("x")
        (self.work / "sub").mkdir()
        self.refused(2, "inspect", ".", says=["2 .txt", "1 .jpg", "model_index.json"])
        self.refused(2, "inspect", "sub", says="nothing")
        self.refused(2, "inspect", MODEL.parent, says=["1 folder", str(MODEL)])
        self.refused(2, "inspect", "nowhere", says="nowhere")
        self.refused(65, "inspect", "a.txt", says="a.txt")
        (self.work / "sub" / "pytorch_model.bin").write_bytes(b"\x80\x02")
        self.refused(2, "inspect", "sub", says="tools/convert.py")

    def test_inspect_of_damaged_descriptions(self):
        for name in ("model_index.json", "config.json", "scheduler_config.json"):
            folder = self.work / name.split(".")[0]
            folder.mkdir()
            for text in ("{", "[1]", ""):
                (folder / name).write_text(text)
                done = self.run_it("inspect", folder)
                self.assertIn(done.returncode, (0, 2, 65), done.stderr)
                self.assertNotIn("bug", done.stderr)

    # completion

    def complete(self, *words):
        script = 'source <("$0" completion bash) && COMP_WORDS=("$@") && COMP_CWORD=$(($# - 1)) && _kinora && printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script, PROGRAM, *words], cwd=self.work, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split("\n")[:-1]

    def test_completion_of_commands_options_and_files(self):
        (self.work / "my model").mkdir()
        (self.work / "clip.mp4").write_text("")
        self.assertEqual(self.complete("kinora", "gen"), ["generate"])
        self.assertIn("doctor", self.complete("kinora", ""))
        self.assertEqual(sorted(self.complete("kinora", "bench", "v")), ["vae"])
        self.assertEqual(self.complete("kinora", "generate", "--negative"), ["--negative-prompt"])
        self.assertIn("--seed", self.complete("kinora", "generate", "a red ball", "--"))
        self.assertEqual(self.complete("kinora", "generate", "--model", "my"), ["my model"])
        self.assertEqual(self.complete("kinora", "eval", "cl"), ["clip.mp4"])
        self.assertEqual(self.complete("kinora", "bench", "dit", "--lay"), ["--layers"])
        for nothing in (("kinora", "generate", "--height", ""), ("kinora", "doctor", "")):
            self.assertEqual([word for word in self.complete(*nothing) if word], [])

    def test_completion_knows_every_option_of_every_command(self):
        for command in ("generate", "plan", "eval", "plot", "inspect", "doctor", "train", "verify", "data shapes", "bench gemm", "completion"):
            with self.subTest(command=command):
                lines = [line.split()[0] for line in self.works(*command.split(), "--help").splitlines() if line.startswith("  -")]
                shown = {name for names in lines for name in names.split(",") if name.startswith("--")}
                self.assertEqual(set(self.complete("kinora", *command.split(), "--")), shown)

    def test_completion_for_other_shells(self):
        for shell, word in (("zsh", "#compdef kinora"), ("fish", "complete -c kinora")):
            script = self.works("completion", shell)
            self.assertIn(word, script)
            self.assertIn("negative-prompt", script)
            if shutil.which(shell):
                (self.work / "script").write_text(script)
                done = subprocess.run([shell, "-n", self.work / "script"], capture_output=True, timeout=60)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.refused(2, "completion", "tcsh", says="bash, zsh or fish")
        self.refused(2, "completion", says="--help")

    def test_help_of_the_tools(self):
        for command in ("eval", "plot", "plan", "doctor", "inspect", "completion"):
            self.assertIn("Example: kinora", self.works(command, "--help"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
