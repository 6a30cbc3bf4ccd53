#!/usr/bin/env python3
"""generate, plan and batch on ranks, from outside: the bytes of one process, one voice, nothing left behind.
Usage: ranks_test.py PROGRAM [TEST...]
"""
import json
import signal
import unittest

from rank_runs import leftovers
from program_case import ProgramCase


class Ranks(ProgramCase):
    def setUp(self):
        super().setUp()
        self.before = leftovers()

    def tearDown(self):
        self.assertEqual(leftovers() - self.before, set())

    def bytes_of(self, name):
        return (self.work / name).read_bytes()

    def test_a_clip_has_the_bytes_of_one_process(self):
        common = ["a red ball", "--seed", "3", "--dtype", "float32", "--height", "64"]
        self.make(*common, "--output", "one.gif")
        for ranks, layout in [(2, "dsp"), (3, "ulysses"), (4, "dsp-stream"), (8, "dsp")]:
            with self.subTest(layout=layout, ranks=ranks):
                row, = self.make(*common, "--output", "many.gif", "--ranks", str(ranks), "--parallel", layout)
                self.assertEqual((row["parallel"]["ranks"], row["parallel"]["layout"]), (ranks, layout))
                self.assertEqual(len(row["parallel"]["peak_resident_bytes"]), ranks)
                self.assertEqual(row["parallel"]["peak_resident_bytes"][0], row["peak_resident_bytes"])
                self.assertGreater(sum(sent["bytes"] for sent in row["parallel"]["sent"].values()), 0)
                self.assertEqual(self.bytes_of("many.gif"), self.bytes_of("one.gif"))

    def test_guidance_apart_and_rings_are_as_near_as_their_last_bits(self):
        common = ["a red ball", "--seed", "3", "--dtype", "float32"]
        self.make(*common, "--output", "one/")
        for ranks, layout in [(2, "guidance"), (4, "guidance+dsp"), (3, "ring")]:
            with self.subTest(layout=layout, ranks=ranks):
                row, = self.make(*common, "--output", layout + "/", "--ranks", str(ranks), "--parallel", layout)
                self.assertEqual(row["parallel"]["layout"], layout)
                compared = json.loads(self.run_it("eval", "one", layout, "--json").stdout)
                self.assertGreater(compared["psnr"], 55)  # a level here and there

    def test_batch_makes_requests_of_different_shapes_in_groups(self):
        requests = [{"prompt": "a red ball", "output": "a.gif", "seed": 1},
                    {"prompt": "a blue square", "output": "b.gif", "seed": 2, "height": 64, "num_frames": 5, "steps": 2},
                    {"prompt": "a ball", "output": "c.png", "seed": 3, "num_frames": 1}]
        (self.work / "requests.jsonl").write_text("# three\n\n" + "\n".join(json.dumps(r) for r in requests) + "\n")
        made = {}
        for options in [(), ("--ranks", "2"), ("--ranks", "4", "--groups", "2", "--parallel", "dsp")]:
            done = self.run_it("batch", "requests.jsonl", "--model", self.model, "--threads", "1", "--dtype", "float32", "--json", *options)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual([row["file"] for row in rows], ["a.gif", "b.gif", "c.png"])
            if options:
                self.assertEqual({row["group"] for row in rows}, {0, 1})
            bytes_now = {r["output"]: self.bytes_of(r["output"]) for r in requests}
            self.assertEqual(made or bytes_now, bytes_now)
            made = bytes_now

    def test_what_cannot_be_is_said_once_by_the_first_rank(self):
        model = ("--model", self.model, "--threads", "1")
        (self.work / "bad.jsonl").write_text('{"prompt": "a", "output": "a.gif", "hight": 3}\n')
        (self.work / "twice.jsonl").write_text('{"prompt": "a", "output": "a.gif"}\n{"prompt": "b", "output": "./a.gif"}\n')
        (self.work / "empty.jsonl").write_text("# nothing\n")
        leaves = ["bad.jsonl", "empty.jsonl", "twice.jsonl"]
        for code, args, says in [
                (2, ("generate", "a ball", "--ranks", "2", "--parallel", "dps", *model), "dsp-stream"),
                (2, ("generate", "a ball", "--ranks", "500", *model), "take at most"),
                (2, ("generate", "a ball", "--ranks", "2", "--guidance-scale", "1", "--parallel", "guidance", *model), "there is no guidance"),
                (2, ("generate", "a ball", "--ranks", "2", "--output", "nowhere/x.gif", *model), "does not exist"),
                (2, ("plan", "--ranks", "500", "--model", self.model), "take at most"),
                (2, ("batch", "none.jsonl", "--ranks", "2", *model), "cannot be opened"),
                (65, ("batch", "bad.jsonl", "--ranks", "2", *model), "line 1: unknown: hight"),
                (65, ("batch", "twice.jsonl", *model), "another request has this output"),
                (65, ("batch", "empty.jsonl", *model), "has no request")]:
            with self.subTest(args=args):
                self.refused(code, *args, says=says, leaves=leaves)

    def test_ctrl_c_keeps_a_job_that_any_number_of_ranks_goes_on_with(self):
        common = ["a red ball", "--seed", "3", "--dtype", "float32", "--steps", "400", "--model", self.model, "--threads", "1"]
        done = self.run_it("generate", *common, "--output", "one.gif")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        run = self.begin("generate", *common, "--output", "many.gif", "--ranks", "2", "--parallel", "dsp", "--checkpoint-every", "1",
                         says=b"denoise 0/400")
        run.send_signal(signal.SIGINT)
        words = run.communicate(timeout=60)[1].decode()
        self.assertEqual(run.returncode, 130, words)
        self.assertIn("--resume", words)
        done = self.run_it("generate", *common, "--output", "many.gif", "--ranks", "3", "--parallel", "dsp", "--resume")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertEqual(self.bytes_of("many.gif"), self.bytes_of("one.gif"))


if __name__ == "__main__":
    unittest.main()
