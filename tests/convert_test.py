#!/usr/bin/env python3
"""tools/convert.py from outside, without PyTorch: a module of that name stands in for it and fails as it does on
damaged files, with exceptions of any class."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", "convert.py")


class Convert(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = folder.name
        self.put("model.bin")

    def put(self, name, text=""):
        path = os.path.join(self.work, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def refused(self, *arguments, says, load="{}"):
        """The tool's one word on stderr; `load` is what the stand-in does with a file."""
        self.put("stand-in/torch.py", f"import pickle\ndef load(*_, **__):\n    {load}\n")
        ran = subprocess.run([sys.executable, TOOL, *arguments], cwd=self.work, capture_output=True, text=True,
                             env={**os.environ, "PYTHONPATH": os.path.join(self.work, "stand-in")}, check=False)
        self.assertEqual(ran.returncode, 1, ran.stderr)
        self.assertIn(says, ran.stderr)
        for word in ("Traceback", "Error:", "Errno", "weights_only"):
            self.assertNotIn(word, ran.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.work, "out")))

    def test_a_damaged_file_is_called_so_whatever_the_reader_throws(self):
        for error in ("KeyError(105)", "RuntimeError('PytorchStreamReader failed')", "EOFError()", "AttributeError('x')",
                      "pickle.UnpicklingError('weights_only=False works')"):
            self.refused("model.bin", "out", says="'model.bin' is damaged", load=f"raise {error}")

    def test_too_little_memory_is_no_damage(self):
        for error in ("MemoryError()", "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')"):
            self.refused("model.bin", "out", says="out of memory", load=f"raise {error}")

    def test_a_missing_package_names_an_environment_to_install_it_in(self):
        self.refused("model.bin", "out", says="python3 -m venv", load="raise ModuleNotFoundError(name='torch')")

    def test_an_output_that_is_no_folder_is_refused(self):
        self.put("file")
        self.refused("model.bin", "file", says="'file' is a file")
        self.refused("model.bin", "file/below", says="'file/below' cannot be made")

    def test_a_damaged_index_is_refused(self):
        for text in ("[", "{}", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'):
            self.put("model/pytorch_model.bin.index.json", text)
            self.refused("model", "out", says="is damaged: not an index of shards")


if __name__ == "__main__":
    unittest.main()
