#!/usr/bin/env python3
"""Full disks, at any moment: the old file stays, the exit code is 69, nothing is left. Usage: disk_test.py PROGRAM [TEST...]

Limits of file sizes need nothing; the tests with a small disk of their own need root and are skipped without.
"""
import copy
import json
import os
import resource
import shutil
import subprocess
import unittest

from program_case import PROGRAM, ProgramCase
from tiny_model import TINY


class FullDisk(ProgramCase):
    # A limit for each file

    def test_a_file_that_grows_too_large_is_an_error_and_leaves_nothing(self):
        for name in ("x.gif", "x.mp4"):
            done = subprocess.run([PROGRAM, "generate", "a", "--model", self.model, "--steps", "1", "--output", name], cwd=self.work, capture_output=True,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)), timeout=300)
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertEqual(list(self.work.iterdir()), [])

    def test_a_full_disk_ends_training_and_leaves_the_last_checkpoint(self):
        shutil.copytree(self.home / "run", self.work / "run")
        longer = copy.deepcopy(TINY)
        longer["stages"]["denoiser"]["steps"] = 4
        (self.work / "longer.json").write_text(json.dumps(longer))
        command = [PROGRAM, "train", "longer.json", "--output", "run", "--threads", "1"]
        before = {p.name: p.read_bytes() for p in (self.work / "run/denoiser").glob("step-*")}
        done = subprocess.run(command, cwd=self.work, capture_output=True, timeout=300,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertEqual({p.name: p.read_bytes() for p in (self.work / "run/denoiser").glob("step-*")}, before)
        self.assertEqual([str(p) for p in (self.work / "run").rglob("*tmp*")], [])
        done = subprocess.run(command, cwd=self.work, capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"resumes at step 2 of 4", done.stderr)

    def test_a_decode_that_fails_leaves_the_latents_and_names_the_way_on(self):
        """The disk has room for the latents, 2 x 2 x 3 x 4 numbers, and for their job, but not for 200 KB of frames."""
        self.make("a red ball", "--seed", "3", "--frames", "65", "--height", "64", "--width", "64", "--output", "want.gif")
        (self.work / "x.gif").write_bytes(b"the old file")
        done = subprocess.run([PROGRAM, "generate", "a red ball", "--seed", "3", "--frames", "65", "--height", "64", "--width", "64", "--threads", "1",
                               "--model", self.model, "--output", "x.gif"], cwd=self.work, capture_output=True,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)), timeout=300)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertEqual((self.work / "x.gif").read_bytes(), b"the old file")
        self.assertEqual(self.files(), ["want.gif", "x.gif", "x.gif.job"])
        words = done.stderr.decode().splitlines()[-1]
        command = words[words.index("kinora generate"):].split()
        again = subprocess.run([PROGRAM, *command[1:], "--threads", "1"], cwd=self.work, capture_output=True, timeout=300)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual((self.work / "x.gif").read_bytes(), (self.work / "want.gif").read_bytes())
        self.assertEqual(self.files(), ["want.gif", "x.gif"])

    # A disk of a few kilobytes

    def small_disk(self, kib):
        if os.geteuid() != 0 or not shutil.which("mount"):
            self.skipTest("a small disk of its own needs root and mount")
        disk = self.work / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", disk], capture_output=True).returncode != 0:
            self.skipTest("no tmpfs here")
        self.addCleanup(lambda: subprocess.run(["umount", disk], check=True))
        return disk

    def fill(self, disk, room):
        """Leaves so many bytes free."""
        space = os.statvfs(disk)
        (disk / "filler").write_bytes(b"\0" * max(0, space.f_bavail * space.f_frsize - room))

    def test_a_full_disk_leaves_the_old_file(self):
        disk = self.small_disk(256)
        for room in (2_000, 20_000, 60_000, 120_000):
            for name in ("x.gif", "x.mp4"):
                (disk / name).write_bytes(b"the old file")
                self.fill(disk, room)
                done = self.run_it("generate", "a red ball", "--frames", "129", "--height", "96", "--width", "96", "--steps", "2", "--model", self.model,
                                   "--output", disk / name)
                if done.returncode == 0:
                    self.assertNotEqual((disk / name).read_bytes(), b"the old file")
                else:
                    self.assertEqual(done.returncode, 69, done.stderr)
                    self.assertEqual((disk / name).read_bytes(), b"the old file")
                for left in disk.iterdir():
                    self.assertIn(left.name, ("filler", "x.gif", "x.mp4", "x.gif.job", "x.mp4.job"))
                    left.unlink()

    def test_a_full_disk_leaves_all_of_the_old_pictures_or_none_of_a_new_folder(self):
        disk = self.small_disk(1024)
        args = ["generate", "a red ball", "--height", "96", "--width", "96", "--steps", "1", "--model", self.model, "--output"]
        codes = set()
        for room in (4_000, 60_000, 150_000, 800_000):
            old = {f"p_{i:02d}.png": b"the old file" for i in range(9)}
            for name, raw in old.items():
                (disk / name).write_bytes(raw)
            self.fill(disk, room)
            done = self.run_it(*args, disk / "p_%02d.png")
            codes.add(done.returncode)
            found = {p.name: p.read_bytes() for p in disk.glob("p_*.png")}
            if done.returncode == 0:
                self.assertTrue(all(raw.startswith(b"\x89PNG") for raw in found.values()) and found.keys() == old.keys(), found.keys())
            else:
                self.assertEqual((done.returncode, found), (69, old), done.stderr)
            self.assertLessEqual({p.name for p in disk.iterdir()}, {*old, "filler", "p_%02d.png.job"})
            for left in disk.iterdir():
                left.unlink()
            self.fill(disk, room)
            done = self.run_it(*args, disk / "new/")
            self.assertEqual((disk / "new").is_dir(), done.returncode == 0, done.stderr)
            self.assertLessEqual({p.name for p in disk.iterdir()}, {"filler", "new", "new.job"})
            shutil.rmtree(disk / "new", ignore_errors=True)
            for left in disk.iterdir():
                left.unlink()
        self.assertEqual(codes, {0, 69})

    def test_latents_that_find_no_room_leave_the_old_ones_and_the_clip(self):
        disk = self.small_disk(64)
        (disk / "l").write_bytes(b"the old latents")
        self.fill(disk, 0)
        done = self.run_it("generate", "a red ball", "--steps", "1", "--model", self.model, "--save-latents", disk / "l", "--output", "x.gif")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn(b"free some disk space", done.stderr)
        self.assertEqual((disk / "l").read_bytes(), b"the old latents")
        self.assertEqual((sorted(p.name for p in disk.iterdir()), self.files()), (["filler", "l"], ["disk", "x.gif"]))

    def test_a_full_disk_ends_training_at_any_time_and_leaves_the_last_checkpoint(self):
        disk = self.small_disk(16 * 1024)
        longer = copy.deepcopy(TINY)
        longer["stages"]["denoiser"]["steps"] = 4
        (self.work / "longer.json").write_text(json.dumps(longer))
        shutil.copytree(self.home / "run", disk / "run")
        command = ["train", "longer.json", "--output", disk / "run", "--threads", "1", "--samples", "0"]
        before = {p.name: p.read_bytes() for p in (disk / "run/denoiser").glob("step-*")}
        for room in (0, 9_000, 100_000):  # not even the config; the table; some of the tensors
            self.fill(disk, room)
            done = self.run_it(*command)
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn(b"free some disk space", done.stderr)
            self.assertEqual({p.name: p.read_bytes() for p in (disk / "run/denoiser").glob("step-*")}, before)
            self.assertEqual([str(p) for p in disk.rglob("*tmp*")], [])
            (disk / "filler").unlink()
        done = self.run_it(*command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"resumes at step 2 of 4", done.stderr)

    def test_a_full_disk_ends_data_without_a_broken_clip(self):
        disk = self.small_disk(1024)
        self.fill(disk, 60_000)
        done = self.run_it("data", "shapes", "--out", disk / "clips", "--count", "500")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn(b"free some disk space", done.stderr)
        clips = list((disk / "clips").iterdir())
        self.assertTrue(clips and all(p.suffix == ".gif" and p.read_bytes().endswith(b";") for p in clips), clips)


if __name__ == "__main__":
    unittest.main(verbosity=1)
