#!/usr/bin/env python3
"""The program from outside: exit codes, messages, files left behind. Usage: cli_test.py PROGRAM [TEST...]

Trains a model of a few thousand weights for two steps and works with that; nothing but Python's own library is needed.
"""
import json
import os
import struct
import subprocess
import unittest

from program_case import ProgramCase
from safetensors_file import write_safetensors
from tiny_model import TINY


class CommandLine(ProgramCase):
    # What works

    def test_generate_writes_an_mp4_that_says_what_made_it(self):
        done = self.run_it("generate", "a red ball moves to the right on grass", "--model", self.model, "--seed", "7", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual((report["file"], report["seed"], report["num_frames"]), ("out.mp4", 7, 9))
        self.assertEqual([p.name for p in self.work.iterdir()], ["out.mp4"])
        probe = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format_tags=comment:stream=codec_name,pix_fmt", "-of", "json",
                                self.work / "out.mp4"], capture_output=True, check=True)
        found = json.loads(probe.stdout)
        self.assertEqual((found["streams"][0]["codec_name"], found["streams"][0]["pix_fmt"]), ("h264", "yuv420p"))
        comment = json.loads(found["format"]["tags"]["comment"])
        self.assertEqual((comment["prompt"], comment["seed"]), ("a red ball moves to the right on grass", 7))
        for shown in (b"load 0/1", b"encode 1/1", b"denoise 4/4", b"decode 9/9"):
            self.assertIn(shown, done.stderr)

    def test_the_same_seed_gives_the_same_file(self):
        for name in ("a.gif", "b.gif"):
            self.assertEqual(self.run_it("generate", "a blue square", "--model", self.model, "--seed", "1", "-o", name).returncode, 0)
        self.assertEqual((self.work / "a.gif").read_bytes(), (self.work / "b.gif").read_bytes())

    def test_several_prompts_give_several_files(self):
        done = self.run_it("generate", "--prompt", "a red ball", "--prompt", "a blue square", "--model", self.model, "--output", "x.gif", "--steps", "1")
        self.assertEqual(done.stdout.decode().split(), ["x-0.gif", "x-1.gif"])
        self.assertTrue((self.work / "x-1.gif").stat().st_size > 0)

    def test_the_diffusers_spellings_work(self):
        done = self.run_it("generate", "a red ball", "--model", self.model, "--num-frames", "1", "--num-inference-steps", "1", "--output-path", "x.png",
                           "--negative-prompt", "a square", "--dtype", "float32", "--threads", "1", "--memory", "2GB")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.work / "x.png").read_bytes()[:4], b"\x89PNG")

    def test_model_can_come_from_the_environment(self):
        done = self.run_it("generate", "a red ball", "--steps", "1", "-o", "x.gif", env={"KINORA_MODEL": str(self.model)})
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_inspect_names_tensors(self):
        done = self.run_it("inspect", self.model)
        self.assertIn(b"x_embedder.proj.weight", done.stdout)
        parts = [json.loads(line) for line in self.run_it("inspect", self.model, "--json", "--summary").stdout.splitlines()]
        self.assertEqual(sorted(p["part"] for p in parts), ["text_encoder", "transformer", "vae"])
        self.assertTrue(all(p["params"] > 0 and p["bytes"] > 0 for p in parts))

    def test_data_writes_clips_and_captions(self):
        done = self.run_it("data", "shapes", "--out", "clips", "--count", "3", "--seed", "5", "--split", "held-out")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [json.loads(line) for line in (self.work / "clips" / "captions.jsonl").read_text().splitlines()]
        self.assertEqual([r["file"] for r in rows], ["000000.gif", "000001.gif", "000002.gif"])
        for row in rows:
            self.assertEqual((self.work / "clips" / row["file"]).read_bytes()[:6], b"GIF89a")

    def test_bench_holds_the_judge_to_the_truth(self):
        done = self.run_it("bench", "builtin", "--model", self.model, "--judge-only", "--split", "any")
        judge = json.loads(done.stdout)
        self.assertGreaterEqual(judge["all"], 0.98)
        self.assertEqual(judge["wrong_accepted"], 0)

    def test_help_and_version(self):
        self.assertRegex(self.run_it("--version").stdout.decode(), r"^kinora \d+\.\d+\.\d+\n$")
        for command in ("generate", "verify", "inspect", "data shapes", "train", "bench gemm", "bench op", "bench dit", "bench cogvideox", "bench wan", "bench t5",
                        "bench autoencoder", "bench vae", "bench builtin"):
            done = self.run_it(*command.split(), "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn(b"Example: kinora", done.stdout)
            self.assertEqual(done.stderr, b"")

    # Bad input

    def test_bad_prompts(self):
        self.refused(2, "generate", "", "--model", self.model, says="empty")
        self.refused(2, "generate", "--model", self.model, says="no prompt")
        self.refused(2, "generate", "a" * 100_000, "--model", self.model, says="100000 bytes")
        self.refused(2, "generate", b"\xff\xfe", "--model", self.model, says="UTF-8")

    def test_bad_sizes(self):
        for option, value in (("--height", "0"), ("--height", "-5"), ("--width", "1"), ("--frames", "0"), ("--frames", "-1"),
                              ("--steps", "0"), ("--seed", ""), ("--frames", ""), ("--height", ""), ("--memory", ""),
                              ("--fps", "0"), ("--guidance-scale", "nan"), ("--threads", "-1"), ("--resolution", "481p"), ("--dtype", "int3"), ("--device", "gpu"), ("--device", "cuda:"),
                              ("--memory", "much"), ("--steps", "abc"), ("--seed", "-2"), ("--seed", "99999999999999999999999")):
            with self.subTest(option=option, value=value):
                self.refused(2, "generate", "a red ball", "--model", self.model, option, value)

    def test_prompts_without_quotes_are_refused(self):
        self.refused(2, "generate", "a", "red", "ball", "--model", self.model, says="quotes")

    def test_scores_are_refused_where_prompts_are_plain(self):
        for option, value in (("--aes", "6"), ("--flow", "3"), ("--camera-motion", "pan left")):
            self.refused(2, "generate", "a red ball", "--model", self.model, option, value, says=option)

    def test_a_gif_has_a_most_of_frames_and_pictures_have_none(self):
        self.refused(2, "generate", "a", "--model", self.model, "--frames", "1025", "--output", "x.gif", says="too many")
        done = self.run_it("generate", "a", "--model", self.model, "--frames", "1025", "--steps", "1", "--guidance-scale", "1", "--output", "x.mp4")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_device_that_is_not_there(self):
        self.refused(69, "generate", "a red ball", "--model", self.model, "--device", "cuda:99", says="CUDA")
        (self.work / "x.json").write_text(json.dumps(TINY))
        self.refused(69, "train", "x.json", "--output", "run", "--device", "cuda:99", says="CUDA", leaves=["x.json"])

    def test_too_large_for_the_memory_names_what_fits(self):
        self.assertRegex(self.refused(69, "generate", "a red ball", "--model", self.model, "--frames", "60000", "--height", "4096", "--width", "4096"),
                         r"\d+ frames? of \d+x\d+ would fit")
        self.refused(69, "generate", "a red ball", "--model", self.model, "--memory", "1MB", says="need")

    def test_bad_models(self):
        self.refused(2, "generate", "a", "--model", "nowhere", says="nowhere")
        self.refused(2, "generate", "a", "--model", "", says="--model")
        (self.work / "model.pt").write_bytes(b"\x80\x02pickle")
        self.refused(2, "generate", "a", "--model", "model.pt", says="tools/convert.py", leaves=["model.pt"])
        self.refused(2, "inspect", "model.pt", says="tools/convert.py", leaves=["model.pt"])

    def test_a_folder_without_a_model_says_what_is_known(self):
        (self.work / "empty").mkdir()
        self.refused(2, "generate", "a", "--model", "empty", says="OpenSoraPipeline", leaves=["empty"])

    def test_inspect_of_a_config_names_the_folder(self):
        for name in ("model_index.json", "vae/config.json"):
            self.refused(2, "inspect", self.model / name, says="folder around it")

    def test_no_byte_of_a_foreign_name_moves_the_cursor(self):
        self.assertNotIn("\x1b", self.refused(2, "generate", "a", "--model", "a\x1b[31mb"))

    def test_defaults_that_cannot_be_are_of_the_file(self):
        index = json.loads((self.copy_model() / "model_index.json").read_text())
        for key, value in (("guidance_scale", -1), ("fps", 0)):
            changed = {**index, "defaults": {**index["defaults"], key: value}}
            (self.work / "model" / "model_index.json").write_text(json.dumps(changed))
            self.refused(65, "generate", "a", "--model", "model", says=key, leaves=["model"])

    def test_unknown_model_class(self):
        index = json.loads((self.copy_model() / "model_index.json").read_text())
        index["_class_name"] = "MarvelPipeline"
        (self.work / "model" / "model_index.json").write_text(json.dumps(index))
        words = self.refused(2, "generate", "a", "--model", "model", says="MarvelPipeline", leaves=["model"])
        self.assertIn("OpenSoraPipeline", words)

    def test_a_bin_file_in_a_model_names_the_converter(self):
        weights = next((self.copy_model() / "transformer").glob("*.safetensors"))
        weights.rename(weights.parent / "pytorch_model.bin")
        self.refused(2, "generate", "a", "--model", "model", says="tools/convert.py", leaves=["model"])

    def test_damaged_weights(self):
        weights = next((self.copy_model() / "transformer").glob("*.safetensors"))
        whole = weights.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + size])
        name = "x_embedder.proj.bias"

        def changed(entry):
            text = json.dumps({**header, name: {**header[name], **entry}}).encode()
            return struct.pack("<Q", len(text)) + text + whole[8 + size:]

        begin, end = header[name]["data_offsets"]
        for damaged in (b"", whole[:5], whole[: 8 + size // 2], whole[:-100], struct.pack("<Q", 1 << 62) + whole[8:], b"\x00" * 64,
                        changed({"data_offsets": [begin - 2, end - 2]}), changed({"shape": [1 << 40, 1 << 40]}), changed({"dtype": "F77"})):
            weights.write_bytes(damaged)
            self.refused(65, "generate", "a", "--model", "model", leaves=["model"])
            self.refused(65, "inspect", weights, leaves=["model"])

    def test_wrong_tensors_are_named(self):
        weights = next((self.copy_model() / "transformer").glob("*.safetensors"))
        whole = weights.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        for before, after in ((b"x_embedder.proj.bias", b"x_embedder.proj.bia5"), (b"final_layer.linear.bias", b"final_layer.linear.bia5")):
            weights.write_bytes(whole[:8] + whole[8:8 + size].replace(before, after) + whole[8 + size:])
            words = self.refused(65, "generate", "a", "--model", "model", says=before.decode(), leaves=["model"])
            self.assertIn(after.decode(), words)
        write_safetensors(weights, {"x_embedder.proj.bias": ([3], b"\0" * 12)})
        self.refused(65, "generate", "a", "--model", "model", says="x_embedder.proj.bias is [3]", leaves=["model"])

    def test_outputs_that_cannot_be_written(self):
        self.refused(2, "generate", "a", "--model", self.model, "--output", "nodir/x.mp4", says="nodir")
        self.refused(2, "generate", "a", "--model", self.model, "--output", "x.avi", says=".mp4")
        self.refused(69, "generate", "a", "--model", self.model, "--output", "/proc/x.gif")
        self.refused(2, "generate", "a", "--model", self.model, "--frames", "3", "--output", "x.png")

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_what_may_not_be_read_is_named_and_no_bug(self):
        (self.work / "locked").mkdir(mode=0)
        self.addCleanup((self.work / "locked").chmod, 0o700)
        self.refused(69, "inspect", "locked/model", says="locked", leaves=["locked"])
        self.refused(69, "generate", "a", "--model", self.model, "--output", "locked/", says="locked", leaves=["locked"])

    def test_without_ffmpeg_gif_still_works(self):
        nowhere = {"PATH": "/nonexistent"}
        self.refused(69, "generate", "a", "--model", self.model, says="ffmpeg", env=nowhere)
        done = self.run_it("generate", "a", "--model", self.model, "--steps", "1", "--output", "x.gif", env=nowhere)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_ffmpeg_without_the_encoder_is_refused_before_work(self):
        (self.work / "bin").mkdir()
        (self.work / "bin" / "ffmpeg").write_text("#!/bin/sh\necho \"Codec 'libx264' is not recognized by FFmpeg.\"\n")
        (self.work / "bin" / "ffmpeg").chmod(0o755)
        self.refused(69, "generate", "a", "--model", self.model, says="libx264", leaves=["bin"],
                     env={"PATH": f"{self.work / 'bin'}:{os.environ['PATH']}"})

    def test_several_clips_beside_a_folder_that_is_there(self):
        (self.work / "d").mkdir()
        done = self.run_it("generate", "--prompt", "a", "--prompt", "b", "--model", self.model, "--steps", "1", "--frames", "1", "--output", "d")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(p.name for p in self.work.iterdir()), ["d", "d-0", "d-1"])

    def test_a_sheet_that_cannot_be_written_is_refused_before_work(self):
        for sheet, says in (("nodir/x.png", "nodir"), ("x.gif", ".png")):
            self.refused(2, "bench", "builtin", "--model", self.model, "--sheet", sheet, says=says)
        parts = [word for part in ("transformer", "vae", "text-encoder") for word in (f"--{part}", self.model / part.replace("-", "_"))]
        self.refused(2, "bench", "builtin", *parts, says="world.json")

    def test_unknown_commands_and_options(self):
        self.refused(2, "frobnicate", says="frobnicate")
        self.refused(2, "generate", "a", "--bogus", says="--bogus")
        self.refused(2, "bench", "op", "no_such_op", says="attention")
        self.refused(2, "bench", "foo", says="foo")
        self.refused(2, "bench", "gemm", "--size", "1", says="kinora bench gemm --help")
        self.refused(2, "bench", "dit", "--latent", "10000000000", "10000000000", "10", says="16384")
        self.refused(2, "bench", "cogvideox", "--latent", "1", "3", "4", says="even height and width")
        self.refused(2, "bench", "wan", "--latent", "1", "4", "3", says="even height and width")
        self.refused(2, "bench", "autoencoder", "--clip", "1", "7", "8", says="at least 8 pixels")
        self.refused(2, "verify", "nowhere", says="nowhere")

    def test_bad_training_configs(self):
        (self.work / "x.json").write_text("{")
        self.refused(65, "train", "x.json", "--output", "out", leaves=["x.json"])
        (self.work / "x.json").write_text(json.dumps({**TINY, "surprise": 1}))
        self.refused(65, "train", "x.json", "--output", "out", says="surprise", leaves=["x.json"])
        self.refused(2, "train", "absent.json", "--output", "out", leaves=["x.json"])
        for part, key, value in (("world", "height", 33), ("world", "shapes", ["cube"]), ("defaults", "steps", 0), ("defaults", "fps", -1),
                                 ("defaults", "height", 2)):
            (self.work / "x.json").write_text(json.dumps({**TINY, part: {**TINY[part], key: value}}))
            self.refused(65, "train", "x.json", "--output", "out", says=part, leaves=["x.json"])
        (self.work / "x.json").write_text(json.dumps(TINY))
        self.refused(2, "train", "x.json", "--from", "nowhere", "--output", "out", says="nowhere", leaves=["x.json"])

    def test_verify_without_cases_fails(self):
        done = self.run_it("verify", ".")
        self.assertEqual((done.returncode, done.stdout.decode().splitlines()[0][:16]), (1, "there is no case"))

    # Every way to make a clip

    def test_a_picture_becomes_a_clip(self):
        self.write_png("a.png")
        first = self.make("a red ball", "--image", "a.png", "--seed", "3", "--output", "x.gif")[0]
        self.assertEqual((first["num_frames"], first["height"], first["width"]), (9, 32, 32))
        self.make("a red ball", "--reference", "a.png", "--mask-strategy", "0,0,0,0,1,0", "--seed", "3", "--output", "y.gif")
        self.assertEqual((self.work / "x.gif").read_bytes().replace(b"x.gif", b""), (self.work / "y.gif").read_bytes().replace(b"y.gif", b""))
        self.assertEqual(self.files(), ["a.png", "x.gif", "y.gif"])

    def test_pictures_of_any_aspect_fill_the_frame(self):
        for width, height in ((1, 1), (33, 17), (17, 90), (2048, 1024)):
            picture = self.write_png(f"{width}x{height}.png", width=width, height=height)
            self.assertEqual(self.make("a red ball", "--image", picture, "--steps", "1", "--output", "z.gif")[0]["num_frames"], 9)

    def test_pictures_that_cannot_be(self):
        (self.work / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        (self.work / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 100)
        (self.work / "text.png").write_bytes(b"hello")
        self.write_png("strip.png", width=900, height=2)
        self.write_png("huge.png", width=9000, height=8)
        leaves = self.files()
        for name, code, says in (("broken.png", 65, "broken.png"), ("photo.jpg", 65, "ffmpeg -i"), ("text.png", 65, "text.png"),
                                 ("huge.png", 65, "too large"), ("strip.png", 2, "strip.png"), ("absent.png", 2, "absent.png")):
            self.refused(code, "generate", "a", "--model", self.model, "--image", name, "--output", "x.gif", says=says, leaves=leaves)
        self.refused(2, "generate", "a", "--model", self.model, "--mask-strategy", "0", "--output", "x.gif", says="--reference", leaves=leaves)

    def test_clips_are_extended_joined_and_closed(self):
        for name, seed in (("a.gif", 1), ("b.mp4", 2)):
            self.assertEqual(self.make("a red ball", "--seed", str(seed), "--output", name)[0]["num_frames"], 9)
        self.assertEqual(self.make("a red ball", "--extend", "a.gif", "--output", "x.gif")[0]["num_frames"], 9 + 9 - 1)
        self.assertEqual(self.make("a", "--join", "a.gif", "b.mp4", "--condition-frames", "4", "--output", "y.mp4")[0]["num_frames"], 9 + 4 + 9)
        self.assertEqual(self.make("a", "--loops", "3", "--condition-frames", "5", "--output", "z.gif")[0]["num_frames"], 9 + 4 + 4)
        self.assertEqual(self.make("a", "--seamless", "--condition-frames", "4", "--output", "s.gif")[0]["num_frames"], 9 + 9 - 1 - 4)
        self.assertEqual(self.make("|0|a red ball|1|a blue ball", "--loops", "2", "--output", "t.gif")[0]["num_frames"], 9 + 9 - 1)

    def test_clips_that_cannot_be_extended(self):
        self.make("a", "--frames", "3", "--output", "short.gif")
        for args, says in ((["--extend", "short.gif", "--condition-frames", "5"], "3 frames"),
                           (["--loops", "2", "--condition-frames", "9"], "none made"),
                           (["--extend", "absent.gif"], "absent.gif"),
                           (["--condition-frames", "5"], "--extend"),
                           (["--extend", "short.gif", "--join", "short.gif", "short.gif"], "excludes"),
                           (["--loops", "0"], "loops")):
            self.refused(2, "generate", "a", "--model", self.model, "--output", "x.gif", *args, says=says, leaves=["short.gif"])
        self.refused(2, "generate", "|0|a|2|b", "--model", self.model, "--loops", "2", "--output", "x.gif", says="--loops 3", leaves=["short.gif"])

    def test_prompts_come_from_a_file(self):
        (self.work / "p.txt").write_bytes(b"\xef\xbb\xbfa red ball\r\n\n   \n# not this one\n  a blue ball  \na ball")
        lines = self.make("--prompts", "p.txt", "--seed", "7", "--output", "x.gif")
        self.assertEqual([(line["prompt"], line["seed"], line["file"]) for line in lines],
                         [("a red ball", 7, "x-0.gif"), ("a blue ball", 8, "x-1.gif"), ("a ball", 9, "x-2.gif")])

    def test_prompt_files_that_cannot_be(self):
        (self.work / "p.txt").write_bytes(b"a ball\n\nb\xe4ll\n")
        self.refused(65, "generate", "--prompts", "p.txt", "--model", self.model, says="line 3", leaves=["p.txt"])
        for empty in (b"", b"\n\n# nothing\n  \n"):
            (self.work / "p.txt").write_bytes(empty)
            self.refused(65, "generate", "--prompts", "p.txt", "--model", self.model, says="no prompt", leaves=["p.txt"])
        self.refused(2, "generate", "--prompts", "absent.txt", "--model", self.model, says="absent.txt", leaves=["p.txt"])

    def test_a_drawn_seed_is_reported_and_repeats(self):
        seed = self.make("a", "--seed", "-1", "--output", "x.gif")[0]["seed"]
        self.make("a", "--seed", str(seed), "--output", "y.gif")
        self.assertEqual((self.work / "x.gif").read_bytes(), (self.work / "y.gif").read_bytes())
        self.refused(2, "generate", "a", "--seed", "-2", "--model", self.model, says="-2", leaves=["x.gif", "y.gif"])

    def test_latents_are_saved_and_decoded_again(self):
        self.make("a red ball", "b", "--prompt", "a blue ball", "--seed", "3", "--save-latents", "l", "--output", "x.gif")
        whole = [(self.work / f"x-{i}.gif").read_bytes() for i in range(3)]
        lines = self.make("--from-latents", "l", "--output", "y.gif")
        self.assertEqual([line["prompt"] for line in lines], ["a red ball", "b", "a blue ball"])
        self.assertEqual([(self.work / f"y-{i}.gif").read_bytes() for i in range(3)], whole)
        self.assertEqual(self.files(), ["l"] + [f"{name}-{i}.gif" for name in "xy" for i in range(3)])

    def test_latents_that_cannot_be_decoded(self):
        self.make("a red ball", "--save-latents", "l", "--output", "x.gif")
        leaves = self.files()
        whole = (self.work / "l").read_bytes()
        (self.work / "l").write_bytes(whole[:-5])
        self.refused(65, "generate", "--from-latents", "l", "--model", self.model, leaves=leaves)
        (self.work / "l").write_bytes(whole[:-4] + struct.pack("<f", float("nan")))
        self.refused(65, "generate", "--from-latents", "l", "--model", self.model, leaves=leaves)
        (self.work / "l").write_bytes(whole)
        self.refused(2, "generate", "a prompt", "--from-latents", "l", "--model", self.model, says="leave them out", leaves=leaves)
        self.refused(65, "generate", "--from-latents", next((self.model / "vae").glob("*.safetensors")), "--model", self.model,
                     says="no latents", leaves=leaves)
        self.refused(2, "generate", "--from-latents", "absent", "--model", self.model, says="absent", leaves=leaves)

    def test_previews_come_and_go(self):
        self.make("a red ball", "--preview", "2", "--keep-preview", "--output", "x.gif")
        self.assertEqual(self.files(), ["x.gif", "x.gif.preview.png"])
        self.assertTrue((self.work / "x.gif.preview.png").read_bytes().startswith(b"\x89PNG"))
        self.make("a red ball", "--preview", "1", "--output", "y.gif")
        self.assertEqual(self.files(), ["x.gif", "x.gif.preview.png", "y.gif"])
        self.refused(2, "generate", "a", "--preview", "0", "--model", self.model, leaves=self.files())

    def test_training_shows_what_the_model_makes(self):
        self.assertEqual((self.home / "run/samples.png").read_bytes()[:4], b"\x89PNG")
        self.assertIn(b"</svg>", (self.home / "run/denoiser/loss.svg").read_bytes())


if __name__ == "__main__":
    unittest.main(verbosity=1)
