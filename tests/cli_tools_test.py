#!/usr/bin/env python3
"""plan, doctor, inspect and completion from outside. Usage: cli_tools_test.py PROGRAM [TEST...]

Works with the model in assets/shapes; nothing but Python's own library and ffmpeg is needed.
"""
import json
import math
import shutil
import subprocess
import time
import unittest
from pathlib import Path

from safetensors_file import write_safetensors
from tools_case import CASES, MODEL, PROGRAM, ToolsCase


def write_zeros(path, names, metadata=None):
    """Tensors [3]."""
    write_safetensors(path, {name: ([3], bytes(12)) for name in names}, metadata)


class Tools(ToolsCase):
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

    def test_plan_runs_in_pieces_where_the_memory_asks_for_it(self):
        size = ("plan", "-m", MODEL, "--frames", "816", "--height", "96", "--width", "96", "--dtype", "float32")
        whole = json.loads(self.works(*size, "--json"))
        self.assertIsNone(whole["pieces"])
        self.assertEqual([stage["stage"] for stage in whole["stages"] if stage["is_limit"]], ["denoise"])
        limit = ("--memory", whole["least_memory"])
        limited = json.loads(self.works(*size, *limit, "--json"))
        self.assertTrue(limited["streams_weights"])  # the least of both
        pieces = limited["pieces"]
        self.assertTrue(0 < pieces["bytes"] <= pieces["budget_bytes"] < pieces["whole_bytes"], pieces)
        text = self.works(*size, *limit)
        self.assertIn("blocks in pieces", text)
        self.assertIn("weights streamed", text)
        self.assertIn("branches of guidance apart", text)
        self.assertEqual([(p["branches_apart"], p["rows_per_call"]) for p in (whole, limited)], [(False, 2), (True, 1)])
        self.assertEqual(limited["model_calls"], 2 * whole["model_calls"])
        self.assertIn("limit", text)
        # The figure is what the program holds before it plans and the least beside it, and a hundredth: not what planning takes.
        named = [int(plan["least_memory"].removesuffix("MB")) for plan in (whole, limited)]
        self.assertAlmostEqual(named[0], named[1], delta=named[0] / 100)
        self.refused(69, *size, "--memory", f"{named[1] * 98 // 100}MB", says="--memory")
        self.refused(69, *size, *limit, "--chunk", "none", says="need")
        self.refused(2, *size, "--chunk", "always", says="chunk")
        self.assertIn("--memory", self.refused(69, *size, "--memory", "90MB").stderr)

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

    def test_doctor_sees_whether_rows_depend_on_their_number(self):
        if "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
            self.skipTest("the program asks MKL for equal rows on Intel's processors only")
        for asked, equal in ((None, True), ("AUTO", False)):
            variables = {"KINORA_MODEL": "/nonexistent", "OMP_NUM_THREADS": "2"} | ({"MKL_CBWR": asked} if asked else {})
            found = {f["name"]: f for f in json.loads(self.run_it("doctor", "--json", env=variables).stdout)["findings"]}
            self.assertEqual(found["product"]["facts"]["equal_rows"]["float32"], equal, asked)

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
        write_zeros(self.work / "transformer" / "diffusion_pytorch_model.safetensors", ["a", "b"])
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
        write_zeros(self.work / "model-00001-of-00002.safetensors", ["a"])
        write_zeros(self.work / "model-00002-of-00002.safetensors", ["b", "c"])
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
        write_zeros(self.work / "x.safetensors", ["a"], {"case": json.dumps({"cls": "Marvel", "call": {"method": 3}})})
        self.assertIn("Marvel, forward, from ; not known", self.works("inspect", "x.safetensors"))
        write_zeros(self.work / "x.safetensors", ["a"], {"case": "lower"})
        self.assertNotIn("case of", self.works("inspect", "x.safetensors"))

    def test_inspect_of_a_training_run(self):
        (self.work / "config.json").write_text(json.dumps({"world": {}, "stages": {"spatial": {"steps": 40}, "denoiser": {"steps": 9}}}))
        self.assertIn("no checkpoint yet", self.works("inspect", "."))
        (self.work / "spatial").mkdir()
        for step in (10, 20):
            write_zeros(self.work / "spatial" / f"step-{step}.safetensors", ["a"])
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
        for command in ("plan", "doctor", "inspect", "completion"):
            self.assertIn("Example: kinora", self.works(command, "--help"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
