"""VideoSys' own STDiT3 from a checkout of VideoSys that you have: `kinora bench dit`.

  .peers/bin/python bench/peers/stdit3_videosys.py --videosys FOLDER --layers 4

The model alone is imported: not the package's pipelines and what they need. Of colossalai, imageio and omegaconf, which one process
computes nothing with, an empty module takes the place where they are not installed.
"""
import argparse
import importlib.util
import os
import sys
import types

import torch

import peer

SIZES = {"layers": 28, "latent": [5, 32, 32], "batch": 2, "text_tokens": 120}
MODEL = "models/transformers/open_sora_transformer_3d"
UNUSED = {"colossalai.cluster.process_group_mesh": ["ProcessGroupMesh"], "imageio": [],
          "omegaconf": ["DictConfig", "ListConfig", "OmegaConf"]}


def stand_in(name, classes):
    """An empty module (and its parents) with empty classes, where the package is not installed."""
    package, *children = name.split(".")
    if importlib.util.find_spec(package):
        return
    path = package
    module = sys.modules[path] = types.ModuleType(path)
    for child in children:
        path = f"{path}.{child}"
        module = sys.modules[path] = types.ModuleType(path)
    for each in classes:
        setattr(module, each, type(each, (), {}))


def import_model(folder):
    package = os.path.join(folder, "videosys")
    if not os.path.exists(os.path.join(package, MODEL + ".py")):
        sys.exit(f"{folder} is no checkout of VideoSys: it has no videosys/{MODEL}.py\ngive the folder that holds videosys/ with --videosys")
    for name in ("transformers", "diffusers.models.attention"):  # before the stand-ins: they ask which packages are installed
        peer.load(name)
    for name, classes in UNUSED.items():
        stand_in(name, classes)
    bare = sys.modules["videosys"] = types.ModuleType("videosys")  # its own __init__ imports every pipeline
    bare.__path__ = [package]
    return peer.load("videosys." + MODEL.replace("/", "."))


def build(o, dtype):
    videosys = import_model(os.path.abspath(o.videosys))
    model = peer.made_in(dtype, lambda: videosys.STDiT3(videosys.STDiT3Config(depth=o.layers)))
    model.enable_parallel(parallel_mgr=types.SimpleNamespace(sp_size=1, cp_size=1))
    frames, height, width = o.latent
    latents = torch.randn(o.batch, 4, frames, height, width, dtype=dtype)
    caption = torch.randn(o.batch, 1, 300, 4096, dtype=dtype)
    mask = (torch.arange(300) < o.text_tokens).long().expand(o.batch, 300)
    timestep, fps = torch.full((o.batch,), 500.0), torch.full((o.batch,), 24.0, dtype=dtype)
    pixels = {"height": torch.full((o.batch,), 8.0 * height), "width": torch.full((o.batch,), 8.0 * width)}
    rows = o.batch * frames * -(-height // 2) * -(-width // 2)
    return peer.Work(model, lambda: model(latents, timestep, caption, mask=mask, fps=fps, **pixels), (rows, 4 * 1152, 1152))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videosys", required=True, help="the checkout, which holds videosys/")
    peer.add_options(parser, SIZES)
    peer.run("STDiT3-XL/2", "videosys", build, parser.parse_args(), SIZES)


if __name__ == "__main__":
    main()
