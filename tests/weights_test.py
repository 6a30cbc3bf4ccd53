#!/usr/bin/env python3
"""What --lora and --quantize make of a model's weights, from outside. Usage: weights_test.py PROGRAM [TEST...]"""
import json
import struct
import unittest

from program_case import ProgramCase
from safetensors_file import write_safetensors


class Weights(ProgramCase):
    def write_adapter(self, name, module="spatial_blocks.0.attn.qkv", out=96):
        """rank 2 for a layer of the tiny model, whose width is 32; numbers that are exact in float32."""
        a = struct.pack("<64f", *((i % 7 - 3) / 4 for i in range(64)))
        b = struct.pack(f"<{out * 2}f", *((i % 5 - 2) / 4 for i in range(out * 2)))
        write_safetensors(self.work / name, {f"{module}.lora_A.weight": ([2, 32], a), f"{module}.lora_B.weight": ([out, 2], b)})
        return name

    def test_adapters_change_the_clip_which_names_them(self):
        adapter = self.write_adapter("style.safetensors")
        files = {}
        for name, options in (("plain", ()), ("style", ("--lora", adapter + ":0.5")), ("none", ("--lora", adapter + ":0"))):
            row, = self.make("a red ball", "--seed", "1", "--output", name + "/", *options)
            files[name] = [p.read_bytes() for p in sorted((self.work / name).iterdir())]
            self.assertEqual([(lora["name"], lora["strength"]) for lora in row.get("lora", [])],
                             {"plain": [], "style": [("style.safetensors", 0.5)], "none": [("style.safetensors", 0)]}[name])
        (self.work / "one.jsonl").write_text(json.dumps({"prompt": "a red ball", "output": "batch/", "seed": 1}))
        done = self.run_it("batch", "one.jsonl", "--model", self.model, "--lora", adapter + ":0.5", "--json", "--threads", "1")
        self.assertEqual(json.loads(done.stdout)["lora"][0]["strength"], 0.5, done.stderr)
        files["batch"] = [p.read_bytes() for p in sorted((self.work / "batch").iterdir())]
        self.assertNotEqual(files["style"], files["plain"])
        self.assertEqual(files["batch"], files["style"])

        def weights(*options):
            row = json.loads(self.run_it("plan", "--model", self.model, "--dtype", "float32", "--json", *options).stdout)
            return {stage["stage"]: stage["weights_bytes"] for stage in row["stages"]}

        plain, style = weights(), weights("--lora", adapter)
        self.assertEqual(style["denoise"] - plain["denoise"], 4 * (2 * 32 + 96 * 2))
        self.assertEqual(style["text"], plain["text"])

    def test_matrices_can_be_bytes(self):
        plain, bytes_ = (self.make("a red ball", "--seed", "1", "--output", name + "/", "--quantize", name)[0] for name in ("none", "int8"))
        self.assertEqual((plain["quantize"], bytes_["quantize"]), ("none", "int8"))
        done = self.run_it("eval", "none", "int8", "--json")
        self.assertGreater(json.loads(done.stdout)["psnr"], 20, done.stderr)
        rows = [json.loads(self.run_it("plan", "--model", self.model, "--quantize", name, "--json").stdout) for name in ("none", "fp8")]
        self.assertLess(rows[1]["stages"][1]["weights_bytes"], rows[0]["stages"][1]["weights_bytes"])
        kept = ["int8", "none"]
        self.refused(2, "generate", "a red ball", "--model", self.model, "--quantize", "int4", says="int8 and fp8", leaves=kept)
        self.refused(2, "generate", "a red ball", "--model", self.model, "--quantize", "int8", "--offload", "stream:0", says="streamed", leaves=kept)

    def test_adapters_that_do_not_fit_are_refused_before_work(self):
        self.write_adapter("a.safetensors")
        self.write_adapter("b.safetensors", "spatial_blocks.9.attn.qkv")
        self.write_adapter("c.safetensors", out=95)
        names = [f"{c}.safetensors" for c in "abc"]
        for code, adapter, says in ((2, "none.safetensors", "none.safetensors"), (2, "a.safetensors:strong", "FILE:STRENGTH"), (65, names[1], "spatial_blocks.9"),
                                    (65, names[2], "[95, 2]")):
            self.refused(code, "generate", "a red ball", "--model", self.model, "--lora", adapter, says=says, leaves=names)
        self.refused(2, "generate", "a red ball", "--model", self.model, "--lora", names[0], "--ranks", "2", "--parallel", "megatron", says="megatron", leaves=names)
        self.refused(2, "generate", "--from-latents", "x.job", "--model", self.model, "--lora", names[0], says="adapters", leaves=names)


if __name__ == "__main__":
    unittest.main(verbosity=1)
