#!/usr/bin/env python3
"""Make the weights that `kinora eval --lpips` reads: torchvision's AlexNet or VGG16 and the linear layers of LPIPS v0.1.

The trunk is downloaded by torchvision (AlexNet 244 MB, VGG16 528 MB), the linear layers come with the package lpips. The
file holds features.N.weight, features.N.bias and lin0.model.1.weight .. lin4.model.1.weight, in float32. Needs, best in
an environment of its own:

  python3 -m venv lpips-env && lpips-env/bin/pip install torch torchvision lpips safetensors
  lpips-env/bin/python3 tools/lpips_weights.py alex lpips-alex.safetensors

Nothing is ever overwritten.
"""
import argparse
import os
import sys


def tensors_of(net, linear, features):
    """The five linear layers, and the convolutions of the trunk."""
    out = {f"features.{name}": value for name, value in features.items()}
    for i in range(5):
        out[f"lin{i}.model.1.weight"] = linear[f"lin{i}.model.1.weight"]
    first = tuple(out["features.0.weight"].shape)
    wanted = {"alex": (64, 3, 11, 11), "vgg": (64, 3, 3, 3)}[net]
    if first != wanted:
        raise SystemExit(f"lpips_weights.py: features.0.weight has the shape {first}, not {wanted}")
    return {name: value.detach().float().contiguous() for name, value in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=["alex", "vgg"])
    parser.add_argument("output", help="a .safetensors file that is not there yet")
    args = parser.parse_args()
    if os.path.exists(args.output):
        sys.exit(f"lpips_weights.py: '{args.output}' exists; nothing is overwritten")
    try:
        import lpips
        import torch
        import torchvision
        from safetensors.torch import save_file
    except ImportError as error:
        sys.exit(f"lpips_weights.py: {error}; see the head of this file for what to install")
    packed = os.path.join(os.path.dirname(lpips.__file__), "weights", "v0.1", args.net + ".pth")
    linear = torch.load(packed, map_location="cpu", weights_only=True)
    make = torchvision.models.alexnet if args.net == "alex" else torchvision.models.vgg16
    trunk = make(weights="IMAGENET1K_V1")
    save_file(tensors_of(args.net, linear, trunk.features.state_dict()), args.output)
    print(args.output)


if __name__ == "__main__":
    main()
