#!/usr/bin/env python3
"""Convert pickled PyTorch weights (.bin .pt .pth .ckpt) to safetensors, once and offline.

Kinora does not read pickles: they can run code. This tool reads them with weights_only=True, keeps every tensor's name
and type, and writes

  OUTPUT/model.safetensors                                   or, above --max-shard-size,
  OUTPUT/model-00001-of-0000N.safetensors ... and OUTPUT/model.safetensors.index.json

("diffusion_pytorch_model" instead of "model" when the input is called so). Config and tokenizer files beside the input
are copied, so OUTPUT is a folder that `kinora -m` takes. Nothing is ever overwritten.

Needs the Python packages torch and safetensors, best in an environment of their own:

  python3 -m venv convert-env && convert-env/bin/pip install torch safetensors numpy
  convert-env/bin/python3 tools/convert.py INPUT OUTPUT

Use a recent PyTorch (2.10 or newer) for files that you do not trust.
"""
import argparse
import json
import os
import pickle
import re
import shutil
import sys
import tempfile

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
COPIED = (".json", ".txt", ".model", ".md")
WRAPPERS = ("state_dict", "model", "module", "ema")  # where training programs put the weights inside a checkpoint


class Refused(Exception):
    """One sentence for the user."""


def parse_size(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k|m|g|t)?b?", text.strip().lower())
    size = float(match.group(1)) * {None: 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[match.group(2)] if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 5GB")
    return int(size)


def input_files(path):
    """The pickles to read, in order, and the folder with the files to copy (None for a single file)."""
    if os.path.isfile(path):
        return [path], None
    if not os.path.isdir(path):
        raise Refused(f"'{path}' does not exist")
    names = sorted(os.listdir(path))
    indexes = [n for n in names if n.endswith(".bin.index.json")]
    if len(indexes) > 1:
        raise Refused(f"'{path}' has several shard indexes: {', '.join(indexes)}; give one model's folder")
    if indexes:
        try:
            with open(os.path.join(path, indexes[0]), encoding="utf-8") as file:
                shards = sorted({os.fspath(name) for name in json.load(file)["weight_map"].values()})
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Refused(f"'{indexes[0]}' in '{path}' is damaged: not an index of shards; fetch it again") from None
        bad = [s for s in shards if os.path.basename(s) != s or not os.path.isfile(os.path.join(path, s))]
        if bad:
            raise Refused(f"the index names '{bad[0]}', which is not a file in '{path}'")
        return [os.path.join(path, s) for s in shards], path
    pickles = [n for n in names if n.endswith(PICKLES) and n not in ("training_args.bin", "scheduler.pt", "optimizer.pt")]
    if not pickles:
        raise Refused(f"'{path}' has no file that ends in {', '.join(PICKLES)}")
    return [os.path.join(path, n) for n in pickles], path


def tensors_of(path, key):
    """Name -> tensor of one pickle; unwraps checkpoints of training programs."""
    import torch

    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before PyTorch 1.6 cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError, ImportError):
        raise
    except pickle.UnpicklingError:  # PyTorch's own text advises to load it all the same
        raise Refused(f"'{path}' is damaged or holds more than tensors, which could run code; "
                      "fetch it again, or take a release in safetensors") from None
    except Exception as error:  # any class at all: the bytes steer PyTorch's reader
        if "allocate memory" in str(error):
            raise MemoryError from None
        raise Refused(f"'{path}' is damaged, or was not written by torch.save; fetch it again") from None
    if key:
        for part in key.split("/"):
            if not isinstance(state, dict) or part not in state:
                raise Refused(f"'{path}' has no entry '{part}'")
            state = state[part]
    else:
        while isinstance(state, dict) and not any(torch.is_tensor(v) for v in state.values()):
            found = [w for w in WRAPPERS if isinstance(state.get(w), dict)]
            if len(found) != 1:
                raise Refused(f"'{path}' holds {list(state)[:8]}; say with --key where the weights are")
            state = state[found[0]]
    if not isinstance(state, dict):
        raise Refused(f"'{path}' holds a {type(state).__name__}, not a dictionary of tensors")
    others = [name for name, value in state.items() if not torch.is_tensor(value)]
    if others:
        print(f"{path}: {len(others)} entries are no tensors and are left out: {others[:5]}", file=sys.stderr)
    return {name: value for name, value in state.items() if torch.is_tensor(value)}


class Shards:
    """Collects tensors and writes a shard whenever the next one would not fit; names them when their number is known."""

    def __init__(self, work, limit):
        self.work, self.limit = work, limit
        self.parts, self.names, self.pending, self.pending_bytes, self.total = [], {}, {}, 0, 0

    def add(self, name, tensor):
        if name in self.names:
            raise Refused(f"tensor '{name}' is in two input files")
        if tensor.layout.__str__() != "torch.strided":
            raise Refused(f"tensor '{name}' is sparse, which safetensors cannot hold")
        size = tensor.numel() * tensor.element_size()
        if self.pending and self.pending_bytes + size > self.limit:
            self.flush()
        self.names[name] = len(self.parts)
        # A copy: safetensors refuses tensors that share memory (tied weights), and views would hold the whole input.
        self.pending[name] = tensor.detach().clone().contiguous()
        self.pending_bytes += size
        self.total += size

    def flush(self):
        from safetensors.torch import save_file

        part = os.path.join(self.work, f"part-{len(self.parts)}")
        save_file(self.pending, part, metadata={"format": "pt"})
        self.parts.append(part)
        self.pending, self.pending_bytes = {}, 0

    def finish(self, stem):
        """[(file now, name to be)] of everything that was written."""
        if not self.names:
            raise Refused("the input holds no tensors")
        self.flush()
        if len(self.parts) == 1:
            return [(self.parts[0], f"{stem}.safetensors")]
        count = len(self.parts)
        final = [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
        index = os.path.join(self.work, "index")
        with open(index, "w", encoding="utf-8") as file:
            weight_map = {name: final[part] for name, part in sorted(self.names.items())}
            json.dump({"metadata": {"total_size": self.total}, "weight_map": weight_map}, file, indent=1)
        # The index last: a folder without it is visibly incomplete.
        return [*zip(self.parts, final), (index, f"{stem}.safetensors.index.json")]


def move_new(source, target):
    """Gives a finished file its name; refuses one that exists, even one that has just appeared."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(source, target)
    except FileExistsError:
        raise Refused(f"'{target}' exists and is not overwritten") from None
    except OSError:  # a file system without hard links
        if os.path.exists(target):
            raise Refused(f"'{target}' exists and is not overwritten") from None
        os.rename(source, target)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(target, 0o666 & ~umask)  # temporaries are private, weights are not


def convert(source, output, max_shard_bytes, key):
    files, folder = input_files(source)
    base = os.path.basename(files[0])
    stem = "diffusion_pytorch_model" if base.startswith("diffusion_pytorch_model") else "model"
    is_new = not os.path.exists(output)
    if not is_new and not os.path.isdir(output):
        raise Refused(f"'{output}' is a file, which is not overwritten; name a folder")
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise Refused(f"the folder '{output}' cannot be made: {error.strerror}; name another place") from None
    try:
        convert_files(files, folder, output, stem, max_shard_bytes, key)
    except BaseException:
        if is_new and not os.listdir(output):
            os.rmdir(output)
        raise


def convert_files(files, folder, output, stem, max_shard_bytes, key):
    taken = [n for n in os.listdir(output) if n.endswith((".safetensors", ".safetensors.index.json"))]
    if taken:
        raise Refused(f"'{output}' has '{sorted(taken)[0]}' already, which is not overwritten; choose another folder")
    # Inside the output folder, so that the last step is a rename on one disk.
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=output) as work:
        shards = Shards(work, max_shard_bytes)
        for file in files:
            print(f"reading {file}", file=sys.stderr)
            for name, tensor in tensors_of(file, key).items():
                shards.add(name, tensor)
        written = shards.finish(stem)
        for part, name in written:
            move_new(part, os.path.join(output, name))
    copied = 0
    if folder and not os.path.samefile(folder, output):
        for name in sorted(os.listdir(folder)):
            source_file, target = os.path.join(folder, name), os.path.join(output, name)
            is_wanted = name.endswith(COPIED) and not name.endswith(".index.json")
            if is_wanted and os.path.isfile(source_file) and not os.path.exists(target):
                shutil.copyfile(source_file, target)
                copied += 1
    print(f"{len(shards.names)} tensors, {shards.total / 1e9:.2f} GB -> {output} "
          f"({', '.join(n for _, n in written[:3])}{', ...' if len(written) > 3 else ''}; {copied} other files copied)")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python3 tools/convert.py t5-v1_1-xxl t5-v1_1-xxl-safetensors")
    parser.add_argument("input", help="a pickled file, or a folder that holds one or its shards")
    parser.add_argument("output", help="the folder to write; made when missing")
    parser.add_argument("--max-shard-size", type=parse_size, default="5GB", metavar="SIZE",
                        help="largest file, such as 500MB (default: 5GB); also about the memory that is needed")
    parser.add_argument("--key", default="", metavar="PATH",
                        help="where the weights are inside the file, such as state_dict or ema/module (default: found)")
    options = parser.parse_args()
    try:
        convert(options.input, options.output, options.max_shard_size, options.key)
    except Refused as error:
        sys.exit(f"error: {error}")
    except ImportError as error:
        sys.exit(f"error: the Python package {error.name} is missing\n"
                 "       python3 -m venv convert-env && convert-env/bin/pip install torch safetensors numpy\n"
                 "       then run this with convert-env/bin/python3")
    except MemoryError:
        sys.exit("error: out of memory\n       choose a smaller --max-shard-size, or a machine with more memory")
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}\n       look at the rights and the room of both folders")
    except Exception as error:  # one line says it
        text = str(error).strip()
        sys.exit(f"error: {type(error).__name__}: {text.splitlines()[0] if text else ''}")


if __name__ == "__main__":
    main()
