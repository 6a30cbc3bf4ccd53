"""What the tests of the tools share: the model in assets/shapes, a folder for each test, ways to run the program, and pictures."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

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


class ToolsCase(unittest.TestCase):
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
