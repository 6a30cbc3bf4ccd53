#!/usr/bin/env python3
"""STDiT3 of Open-Sora 1.2 in plain eager PyTorch: what Kinora is measured against.

The same mathematics and parameter names as src/kinora/models/open_sora, written as a PyTorch user writes a model:
nn.Linear, F.layer_norm, F.rms_norm, F.scaled_dot_product_attention, broadcasting; no compilation. Text is packed, so no
product is spent on padding: `kinora bench dit`.

  .peers/bin/python bench/peers/stdit3_eager.py --layers 4 --dtype bfloat16 --threads 1
  .peers/bin/python bench/peers/stdit3_eager.py --case tests/cases/video/stdit3_7.safetensors    # equals the stored reference?

Shapes: B batch, T frames, S patches of a frame, C width, A heads, D = C / A.
"""
import argparse
import json
import math
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F

import peer

SIZES = {"layers": 28, "latent": [5, 32, 32], "batch": 2, "text_tokens": 120}


def modulate(x, shift, scale):
    return x * (1 + scale) + shift


class PatchEmbed(nn.Module):
    def __init__(self, patch, channels, width):
        super().__init__()
        self.proj = nn.Conv3d(channels, width, patch, patch)

    def forward(self, x):  # [B, channels, frames, height, width] -> [B, T, S, C]
        return self.proj(x).flatten(3).permute(0, 2, 3, 1)


class ScalarEmbedder(nn.Module):
    frequencies = 256

    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t, dtype):
        half = self.frequencies // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = t.float()[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1).to(dtype))


class Mlp(nn.Module):
    def __init__(self, width, hidden, out):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    def __init__(self, channels, width, tokens):
        super().__init__()
        self.register_buffer("y_embedding", torch.zeros(tokens, channels))
        self.y_proj = Mlp(channels, width, width)

    def forward(self, y):
        return self.y_proj(y)


def rotate(x, cos, sin):  # interleaved pairs
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class SelfAttention(nn.Module):
    def __init__(self, width, heads, qk_norm):
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x, rotary=None):  # [N, rows, C]
        n, rows, width = x.shape
        q, k, v = self.qkv(x).view(n, rows, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(n, rows, width))


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, y, length):  # x [B, rows, C], y [B * length, C]
        b, rows, width = x.shape
        q = self.q_linear(x).view(b, rows, self.heads, self.head_dim).transpose(1, 2)
        k, v = self.kv_linear(y).view(b, length, 2, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(b, rows, width))


class Block(nn.Module):
    def __init__(self, width, heads, mlp_size, qk_norm, temporal):
        super().__init__()
        self.temporal = temporal
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn = SelfAttention(width, heads, qk_norm)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = Mlp(width, mlp_size, width)

    def forward(self, x, y, length, time_embed, rotary):  # x [B, T, S, C]
        b, t, s, width = x.shape
        modulation = (self.scale_shift_table + time_embed)[:, :, None, None]  # [B, 6, 1, 1, C]
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.unbind(1)
        h = modulate(F.layer_norm(x, (width,), eps=1e-6), shift_attn, scale_attn)
        if self.temporal:
            h = self.attn(h.transpose(1, 2).reshape(b * s, t, width), rotary).view(b, s, t, width).transpose(1, 2)
        else:
            h = self.attn(h.view(b * t, s, width)).view(b, t, s, width)
        x = x + gate_attn * h
        x = x + self.cross_attn(x.view(b, t * s, width), y, length).view(b, t, s, width)
        h = modulate(F.layer_norm(x, (width,), eps=1e-6), shift_mlp, scale_mlp)
        return x + gate_mlp * self.mlp(h)


class FinalLayer(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.linear = nn.Linear(width, out)

    def forward(self, x, embed):
        shift, scale = (self.scale_shift_table + embed[:, None])[:, :, None, None].unbind(1)
        return self.linear(modulate(F.layer_norm(x, (x.shape[-1],), eps=1e-6), shift, scale))


class STDiT3(nn.Module):
    def __init__(self, depth=28, hidden_size=1152, num_heads=16, caption_channels=4096, model_max_length=300, patch_size=(1, 2, 2),
                 input_sq_size=512, qk_norm=True, pred_sigma=True, in_channels=4, mlp_ratio=4.0):
        super().__init__()
        self.width, self.patch, self.input_sq_size = hidden_size, tuple(patch_size), input_sq_size
        self.head_dim, self.out_channels = hidden_size // num_heads, in_channels * (2 if pred_sigma else 1)
        self.x_embedder = PatchEmbed(self.patch, in_channels, hidden_size)
        self.t_embedder, self.fps_embedder = ScalarEmbedder(hidden_size), ScalarEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.rope = nn.Module()
        self.rope.register_buffer("freqs", 1 / 10000 ** (torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim))
        self.y_embedder = CaptionEmbedder(caption_channels, hidden_size, model_max_length)
        sizes = (hidden_size, num_heads, int(hidden_size * mlp_ratio), qk_norm)
        self.spatial_blocks = nn.ModuleList([Block(*sizes, temporal=False) for _ in range(depth)])
        self.temporal_blocks = nn.ModuleList([Block(*sizes, temporal=True) for _ in range(depth)])
        self.final_layer = FinalLayer(hidden_size, math.prod(self.patch) * self.out_channels)

    def positions(self, h, w, scale, dtype):  # [1, S, C]
        base = round(math.sqrt(h * w))
        half = self.width // 2
        frequencies = (1 / 10000 ** (torch.arange(0, half, 2) / half)).to(dtype).to(torch.promote_types(dtype, torch.float32))

        def waves(n):
            angles = (torch.arange(n, dtype=frequencies.dtype) / scale * base / n)[:, None] * frequencies
            return torch.cat([angles.sin(), angles.cos()], -1).to(dtype)

        columns = waves(w)[None, :].expand(h, w, half)
        rows = waves(h)[:, None].expand(h, w, half)
        return torch.cat([columns, rows], -1).reshape(1, h * w, self.width)

    def rotary(self, frames, dtype):
        angles = torch.arange(frames, dtype=dtype)[:, None] * self.rope.freqs.to(dtype)
        return angles.cos(), angles.sin()

    def forward(self, x, timestep, caption, length, fps, height, width):
        """x [B, channels, frames, h, w]; of each caption [B, 1, tokens, channels] the first `length` tokens count."""
        dtype = self.final_layer.linear.weight.dtype
        b, size, patch = x.shape[0], x.shape[2:], self.patch
        pads = [-n % p for n, p in zip(size, patch)]
        x = F.pad(x.to(dtype), (0, pads[2], 0, pads[1], 0, pads[0]))
        t, h, w = (n // p for n, p in zip(x.shape[2:], patch))
        scale = math.sqrt(height * width) / self.input_sq_size
        x = self.x_embedder(x) + self.positions(h, w, scale, dtype)[:, None]
        embed = self.t_embedder(timestep.to(dtype), dtype) + self.fps_embedder(fps, dtype)
        time_embed = self.t_block(embed).view(b, 6, self.width)
        y = self.y_embedder(caption[:, 0, :length].to(dtype).flatten(0, 1))
        rotary = self.rotary(t, dtype)
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks):
            x = spatial(x, y, length, time_embed, rotary)
            x = temporal(x, y, length, time_embed, rotary)
        x = self.final_layer(x, embed).view(b, t, h, w, *patch, self.out_channels)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(b, self.out_channels, t * patch[0], h * patch[1], w * patch[2])
        return x[:, :, :size[0], :size[1], :size[2]].to(torch.promote_types(dtype, torch.float32))


def recipe(name, shape, scale, shift):
    """Element i of a named tensor of tests/cases: a hash of the name and i."""
    import numpy as np
    with np.errstate(over="ignore"):
        seed = np.uint64(0xcbf29ce484222325)
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001b3)
        step = np.uint64(0x9E3779B97F4A7C15)
        z = seed + (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(1)) * step
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) * 2.0**-24
    values = ((2 * unit - 1) * np.float64(np.float32(scale)) + np.float64(np.float32(shift))).astype(np.float32)
    return torch.from_numpy(values.reshape(shape)).double()


def check_case(path):
    """Runs a stored parity case in float64; 0 where the result is that of the public reference."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    case = json.loads(header["__metadata__"]["case"])
    if "x_mask" in case["inputs"]:
        sys.exit(f"{path}: given frames are not part of this model")
    model = STDiT3(**{k: v for k, v in case["config"].items() if k != "note"}).double().eval()
    missing = model.load_state_dict({w["name"]: recipe(**w) for w in case["weights"] if w["name"] != "rope.freqs"}, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) > {"y_embedder.y_embedding", "rope.freqs"}:
        sys.exit(f"{path}: {missing}")

    def value(name):
        given = case["inputs"][name]
        return recipe("input." + name, **given["recipe"]) if "recipe" in given else torch.tensor(given["value"], dtype=torch.double)

    tokens = case["inputs"].get("mask_lens", {"value": [case["config"]["model_max_length"]]})["value"][0]
    with torch.inference_mode():
        got = model(value("x"), value("timestep"), value("caption"), tokens, value("fps"), float(value("height")), float(value("width")))
    wanted = case["outputs"]["y"]
    begin, end = header[wanted["tensor"]]["data_offsets"]
    stored = torch.frombuffer(bytearray(data[8 + length + begin:8 + length + end]), dtype=torch.float32).double()
    error = ((got.flatten()[::wanted["stride"]] - stored).norm() / stored.norm()).item()
    print(json.dumps({"case": path, "relative_error": error, "tolerance": case["tolerance"]["rtol"]}))
    return 0 if error <= case["tolerance"]["rtol"] else 1


def build(o, dtype):
    model = peer.made_in(dtype, lambda: STDiT3(depth=o.layers))
    frames, height, width = o.latent
    latents = torch.randn(o.batch, 4, frames, height, width)
    caption = torch.randn(o.batch, 1, 300, 4096, dtype=dtype)
    timestep, fps = torch.full((o.batch,), 500.0), torch.full((o.batch,), 24.0)
    rows = o.batch * frames * -(-height // 2) * -(-width // 2)
    return peer.Work(model, lambda: model(latents, timestep, caption, o.text_tokens, fps, 8.0 * height, 8.0 * width), (rows, 4 * 1152, 1152))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="check a stored case and stop")
    peer.add_options(parser, SIZES)
    o = parser.parse_args()
    if o.case:
        sys.exit(check_case(o.case))
    peer.run("STDiT3-XL/2", "torch", build, o, SIZES)


if __name__ == "__main__":
    main()
