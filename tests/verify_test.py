"""`kinora verify` must be able to fail: a case with one altered number, and a required class that did not run.

Usage: verify_test.py PROGRAM CASES
"""
import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM, CASES = (Path(p).resolve() for p in (sys.argv.pop(1), sys.argv.pop(1)))
CASE = CASES / "video" / "final_layer_0.safetensors"


def alter_one_expected_value(whole):
    """The bytes of a case with the first stored element of its first tensor output negated and moved by one."""
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8:8 + size])
    outputs = json.loads(header["__metadata__"]["case"])["outputs"]
    entry = header[next(o["tensor"] for o in outputs.values() if "tensor" in o)]
    assert entry["dtype"] == "F32", entry
    at = 8 + size + entry["data_offsets"][0]
    value = struct.unpack("<f", whole[at:at + 4])[0]
    return whole[:at] + struct.pack("<f", -value - 1) + whole[at + 4:]


class VerifyFails(unittest.TestCase):
    def verify(self, *args):
        done = subprocess.run([PROGRAM, "verify", *args, "--threads", "1"], capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout.splitlines()

    def test_an_altered_expected_value_fails_and_the_case_is_named(self):
        with tempfile.TemporaryDirectory(prefix="kinora-verify-") as folder:
            case = Path(folder) / CASE.name
            case.write_bytes(CASE.read_bytes())
            self.assertEqual(self.verify(folder), (0, ["1 passed, 0 failed, 0 skipped"]))
            case.write_bytes(alter_one_expected_value(CASE.read_bytes()))
            code, lines = self.verify(folder)
            self.assertEqual(code, 1)
            self.assertEqual(lines[-1], "0 passed, 1 failed, 0 skipped")
            self.assertEqual(len([line for line in lines if CASE.name in line]), 1, lines)

    def test_a_required_class_that_did_not_run_fails(self):
        code, lines = self.verify(CASE, "--require", "NoSuchClass")
        self.assertEqual(code, 1)
        self.assertIn("NoSuchClass", "\n".join(lines))
        self.assertEqual(lines[-1], "1 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main(verbosity=1)
