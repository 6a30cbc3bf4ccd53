#!/usr/bin/env python3
"""Installs Kinora under a folder of its own and builds and runs examples/embed against it, with CMake and with pkg-config.

Usage: embed_test.py BUILD_FOLDER COMPILER LIBTORCH_FOLDER [TEST...]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BUILD, COMPILER, TORCH = (Path(sys.argv.pop(1)).absolute() for _ in range(3))
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "embed"
PROMPT = "a blue square moves up on grass"


def run(*args, env=None, cwd=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KINORA_", "LD_", "CMAKE_"))}
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, cwd=cwd, env={**clean, **(env or {})}, timeout=120)


class Embed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="kinora-embed-"))
        cls.addClassCleanup(shutil.rmtree, cls.home)
        cls.works("cmake", "--install", BUILD, "--prefix", cls.home / "first")
        # An installed tree can be moved.
        cls.prefix = (cls.home / "first").rename(cls.home / "prefix")
        cls.program = cls.configured("program")[1]
        cls.works("cmake", "--build", cls.home / "program")

    @classmethod
    def works(cls, *args, **kwargs):
        done = run(*args, **kwargs)
        assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @classmethod
    def configured(cls, name, *options, source=EXAMPLE):
        """(what cmake said, the program that a build will make)"""
        done = run("cmake", "-G", "Ninja", "-S", source, "-B", cls.home / name, f"-DCMAKE_PREFIX_PATH={cls.prefix}",
                   f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DCMAKE_BUILD_TYPE=Release", *options)
        return done, cls.home / name / "embed"

    def clip(self, program, name, *options):
        file = self.home / name
        said = self.works(program, PROMPT, "--steps", "3", "--output", file, *options)
        self.assertRegex(said, rf"{re.escape(name)}: \d+ frames of \d+x\d+, made by Kinora \d+\.\d+\.\d+")
        return file.read_bytes()

    def test_found_by_cmake_it_makes_the_clip_that_the_program_makes(self):
        made = self.clip(self.program, "cmake.gif")
        self.assertEqual(made[:6], b"GIF89a")
        self.works(self.prefix / "bin/kinora", "generate", PROMPT, "--steps", "3", "--seed", "7", "--output", self.home / "program.gif")
        self.assertEqual(made, (self.home / "program.gif").read_bytes())

    def test_found_by_pkg_config_it_writes_mp4(self):
        env = {"PKG_CONFIG_PATH": str(self.prefix / "lib/pkgconfig")}
        ask = lambda *what: self.works("pkg-config", *what, "kinora", env=env).split()
        program = self.home / "by-pkg-config"
        self.works(COMPILER, "-std=c++20", EXAMPLE / "main.cpp", *ask("--cflags", "--libs"), "-pthread",
                   f"-Wl,-rpath,{ask('--variable=libdir')[0]}", "-o", program)
        self.assertEqual(self.clip(program, "pkg-config.mp4")[4:8], b"ftyp")
        self.assertTrue((Path(ask("--variable=modeldir")[0]) / "model_index.json").is_file())

    def test_cancelled_it_ends_soon_and_leaves_no_file(self):
        begin = time.monotonic()
        done = run(self.program, PROMPT, "--steps", "5000", "--cancel-after", "1", "--output", "cancelled.gif", cwd=self.home)
        self.assertEqual(done.returncode, 130, done.stderr)
        self.assertIn("denoise", done.stderr)
        self.assertTrue(done.stderr.endswith("embed: cancelled\n"), done.stderr)
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(list(self.home.glob("cancelled*")), [])

    def test_errors_come_with_their_exit_code_and_what_would_work(self):
        (self.home / "damaged").mkdir()
        (self.home / "damaged/model_index.json").write_text("{")
        for code, says, options in ((2, "nowhere", ("--model", "nowhere")), (2, "steps", ("--steps", "0")), (2, "folder", ("--output", "no/a.gif")),
                                    (65, "model_index.json", ("--model", "damaged"))):
            done = run(self.program, PROMPT, *options, cwd=self.home)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertLessEqual(len(done.stderr.splitlines()), 2, done.stderr)

    def test_libtorch_may_lie_elsewhere_and_must_be_there(self):
        done, _ = self.configured("without", "-DKINORA_TORCH_DIR=/nowhere")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("LibTorch is not in /nowhere", done.stderr)
        elsewhere = self.home / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "torch").symlink_to(TORCH)
        (elsewhere / "nvidia").symlink_to(TORCH.parent / "nvidia")
        done, program = self.configured("other", f"-DKINORA_TORCH_DIR={elsewhere}/torch")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.works("cmake", "--build", self.home / "other")
        self.assertIn(f"{elsewhere}/torch/lib/libtorch_cpu.so", self.works("ldd", program))
        self.works(program, "--steps", "1", "--output", self.home / "other.gif")

    def test_another_libtorch_is_refused_before_anything_else(self):
        fake = self.home / "fake.so"
        (self.home / "fake.c").write_text("unsigned long aoti_torch_abi_version(void) { return 2ul << 56 | 10ul << 48 | 3ul << 40; }\n")
        self.works(COMPILER, "-x", "c", "-shared", "-fPIC", self.home / "fake.c", "-o", fake)
        for command in ((self.program, "--model", "nowhere"), (self.prefix / "bin/kinora", "generate", PROMPT, "--model", "nowhere")):
            done = run(*command, env={"LD_PRELOAD": str(fake)}, cwd=self.home)
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertRegex(done.stderr, r"for LibTorch \d+\.\d+\.\d+, and LibTorch 2\.10\.3 is loaded")

    def test_a_later_version_is_not_found(self):
        source = self.home / "later"
        source.mkdir()
        (source / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(later LANGUAGES CXX)\nfind_package(kinora 99.0 REQUIRED)\n")
        done, _ = self.configured("later-build", source=source)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kinora", done.stderr)

    def test_the_library_exports_kinoras_face_and_nothing_else(self):
        library = self.prefix / "lib/libkinora.so"
        self.assertRegex(self.works("readelf", "-d", library), r"SONAME.*\[libkinora\.so\.\d+\]")
        names = [line.split(maxsplit=2)[2] for line in self.works("nm", "-DC", "--defined-only", library).splitlines()]
        foreign = [name for name in names if not re.match(r"KINORA_|kinora::|(typeinfo|typeinfo name|vtable) for kinora::", name)]
        self.assertEqual(foreign, [])
        self.assertFalse([name for name in names if name.startswith(("kinora::video::", "kinora::ops::"))])

    def test_the_headers_know_no_libtorch_and_no_json(self):
        for header in (self.prefix / "include").rglob("*.h"):
            for line in header.read_text().splitlines():
                if line.startswith("#include"):
                    self.assertNotRegex(line, "ATen|torch|c10|nlohmann", header)

    def test_shells_find_the_completions(self):
        for place in ("bash-completion/completions/kinora", "zsh/site-functions/_kinora", "fish/vendor_completions.d/kinora.fish"):
            self.assertIn("generate", (self.prefix / "share" / place).read_text(), place)


if __name__ == "__main__":
    unittest.main(verbosity=2)
