#!/usr/bin/env python3
"""What `kinora plan` predicts against what `kinora generate` takes, over 29 sizes, and over sizes within a limit.
Usage: memory_sizes.py PROGRAM [--threads N] [--ranks N...] [--markdown FILE]

Each size runs in a process of its own. Then sizes within a --memory between the least that works and what they take whole: the denoiser's
branches of guidance run apart, its blocks in pieces, or weights are streamed. Then requests that do not fit into --memory: each must be refused, and the size that the
refusal names must run within that memory. Three models: the built-in one, a transformer as wide as Open-Sora 1.2's (fewer
layers) with a small autoencoder, and a small transformer with Open-Sora 1.2's autoencoder. Memory does not ask what the
weights say: they are zeros. With --ranks some of the sizes run on so many ranks, each with the layouts that fit, and the rank
that takes most is compared. Exit status 1 when a ratio leaves 0.95 to 1.15, or a limit is
not kept, or a named size does not fit.
"""
import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

environment = dict(os.environ)  # OMP_NUM_THREADS: of plan as of generate
ROOT = Path(__file__).resolve().parent.parent
BUILTIN = ROOT / "assets" / "shapes"

# (model, dtype, frames, height, width)
SIZES = [
    ("builtin", "bfloat16", 1, 16, 16), ("builtin", "float32", 17, 64, 64), ("builtin", "bfloat16", 9, 96, 160),
    ("builtin", "bfloat16", 24, 96, 96), ("builtin", "float32", 51, 128, 128), ("builtin", "bfloat16", 204, 64, 96),
    ("builtin", "float32", 17, 240, 424), ("builtin", "bfloat16", 17, 360, 640), ("builtin", "float32", 17, 512, 512),
    ("builtin", "float32", 1, 1024, 1024), ("builtin", "bfloat16", 1, 720, 1280),
    ("builtin", "bfloat16", 17, 720, 1280), ("builtin", "float32", 17, 720, 720),
    ("wide", "bfloat16", 1, 64, 64), ("wide", "bfloat16", 17, 256, 256), ("wide", "float32", 17, 256, 256),
    ("wide", "bfloat16", 51, 240, 424),
    ("vae", "bfloat16", 1, 256, 256), ("vae", "bfloat16", 6, 128, 192), ("vae", "float32", 5, 128, 128),
    ("vae", "bfloat16", 4, 480, 480),
    # Chosen after the estimate was done, which was fitted to those above.
    ("builtin", "bfloat16", 25, 96, 96), ("builtin", "bfloat16", 33, 144, 256), ("builtin", "float32", 9, 200, 200),
    ("builtin", "bfloat16", 65, 96, 112), ("wide", "bfloat16", 9, 192, 336), ("wide", "float32", 5, 320, 320),
    ("vae", "bfloat16", 9, 160, 288), ("vae", "float32", 1, 320, 240),
]

# Of many ranks: (layout, model, dtype, frames, height, width)
ON_RANKS = [
    ("dsp", "builtin", "float32", 17, 64, 64), ("dsp", "builtin", "bfloat16", 17, 360, 640), ("dsp", "wide", "bfloat16", 17, 256, 256),
    ("dsp", "wide", "float32", 17, 256, 256), ("dsp", "wide", "bfloat16", 51, 240, 424), ("dsp", "wide", "bfloat16", 68, 360, 640),
    ("ulysses", "wide", "bfloat16", 51, 240, 424), ("ring", "wide", "bfloat16", 51, 240, 424), ("megatron", "wide", "bfloat16", 51, 240, 424),
    ("guidance", "wide", "bfloat16", 51, 240, 424), ("dsp", "vae", "bfloat16", 6, 128, 192),
]
# (model, dtype, frames, height, width, share of the way from the least memory to that of the whole)
LIMITED = [("wide", "bfloat16", 51, 240, 424, 0.1), ("wide", "bfloat16", 51, 240, 424, 0.5), ("wide", "float32", 17, 256, 256, 0.3),
           ("wide", "bfloat16", 102, 144, 256, 0.2), ("wide", "float32", 51, 144, 256, 0.6)]

# (model, dtype, frames, height, width, memory in MB): too large for it.
TOO_LARGE = [("builtin", "bfloat16", 204, 720, 1280, 700), ("wide", "float32", 51, 480, 856, 1500),
             ("vae", "bfloat16", 17, 256, 256, 1200)]


def write_weights(path, shapes, dtype="BF16"):
    """Zeros, as a file with holes."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 if dtype == "BF16" else 4
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + offset)


def linear(shapes, name, out, into, bias=True):
    shapes[name + ".weight"] = [out, into]
    if bias:
        shapes[name + ".bias"] = [out]


def stdit3(c):
    w, s = c["hidden_size"], {}
    head = w // c["num_heads"]
    patch = c["patch_size"]
    linear(s, "final_layer.linear", patch[0] * patch[1] * patch[2] * c["in_channels"] * (2 if c["pred_sigma"] else 1), w)
    s["final_layer.scale_shift_table"] = [2, w]
    for part in ("fps_embedder", "t_embedder"):
        linear(s, part + ".mlp.0", w, 256)
        linear(s, part + ".mlp.2", w, w)
    s["rope.freqs"] = [head // 2]
    linear(s, "t_block.1", 6 * w, w)
    s["x_embedder.proj.weight"], s["x_embedder.proj.bias"] = [w, c["in_channels"], *patch], [w]
    s["y_embedder.y_embedding"] = [c["model_max_length"], c["caption_channels"]]
    linear(s, "y_embedder.y_proj.fc1", w, c["caption_channels"])
    linear(s, "y_embedder.y_proj.fc2", w, w)
    for i in range(c["depth"]):
        for kind in ("spatial", "temporal"):
            b = f"{kind}_blocks.{i}."
            s[b + "scale_shift_table"] = [6, w]
            s[b + "attn.q_norm.weight"] = s[b + "attn.k_norm.weight"] = [head]
            for name, out, into in (("attn.qkv", 3 * w, w), ("attn.proj", w, w), ("cross_attn.q_linear", w, w),
                                    ("cross_attn.kv_linear", 2 * w, w), ("cross_attn.proj", w, w), ("mlp.fc1", 4 * w, w),
                                    ("mlp.fc2", w, 4 * w)):
                linear(s, b + name, out, into)
    return s


def t5(c):
    d, inner, s = c["d_model"], c["num_heads"] * c["d_kv"], {"shared.weight": [c["vocab_size"], c["d_model"]]}
    for i in range(c["num_layers"]):
        b = f"encoder.block.{i}.layer."
        for name in "qkv":
            s[b + f"0.SelfAttention.{name}.weight"] = [inner, d]
        s[b + "0.SelfAttention.o.weight"] = [d, inner]
        if i == 0:
            s[b + "0.SelfAttention.relative_attention_bias.weight"] = [32, c["num_heads"]]
        s[b + "0.layer_norm.weight"] = s[b + "1.layer_norm.weight"] = [d]
        s[b + "1.DenseReluDense.wi_0.weight"] = s[b + "1.DenseReluDense.wi_1.weight"] = [c["d_ff"], d]
        s[b + "1.DenseReluDense.wo.weight"] = [d, c["d_ff"]]
    s["encoder.final_layer_norm.weight"] = [d]
    return s


def vae(config):
    s = {}

    def conv(name, out, into, *kernel, bias=True):
        s[name + ".weight"] = [out, into, *kernel]
        if bias:
            s[name + ".bias"] = [out]

    def norm(name, channels):
        s[name + ".weight"] = s[name + ".bias"] = [channels]

    def picture_block(name, into, out):
        norm(name + ".norm1", into)
        conv(name + ".conv1", out, into, 3, 3)
        norm(name + ".norm2", out)
        conv(name + ".conv2", out, out, 3, 3)
        if into != out:
            conv(name + ".conv_shortcut", out, into, 1, 1)

    c, p = config["vae_2d"], "spatial_vae.module."
    widths, latent = c["block_out_channels"], c["latent_channels"]
    for half, sides in (("encoder", (3, 2 * latent)), ("decoder", (latent, 3))):
        order = widths if half == "encoder" else widths[::-1]
        conv(p + half + ".conv_in", order[0], sides[0], 3, 3)
        for j in (0, 1):
            picture_block(p + f"{half}.mid_block.resnets.{j}", widths[-1], widths[-1])
        if c["mid_block_add_attention"]:
            norm(p + half + ".mid_block.attentions.0.group_norm", widths[-1])
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(s, p + f"{half}.mid_block.attentions.0.{name}", widths[-1], widths[-1])
        into = order[0]
        for i, out in enumerate(order):
            block = p + f"{half}.{'down' if half == 'encoder' else 'up'}_blocks.{i}."
            for j in range(c["layers_per_block"] + (half == "decoder")):
                picture_block(block + f"resnets.{j}", into, out)
                into = out
            if i + 1 < len(order):
                conv(block + ("downsamplers" if half == "encoder" else "upsamplers") + ".0.conv", out, out, 3, 3)
        norm(p + half + ".conv_norm_out", order[-1])
        conv(p + half + ".conv_out", sides[1], order[-1], 3, 3)
    conv(p + "quant_conv", 2 * latent, 2 * latent, 1, 1)
    conv(p + "post_quant_conv", latent, latent, 1, 1)

    c, p = config["vae_temporal"], "temporal_vae."

    def clip_block(name, into, out):
        norm(name + ".norm1", into)
        conv(name + ".conv1.conv", out, into, 3, 3, 3, bias=False)
        norm(name + ".norm2", out)
        conv(name + ".conv2.conv", out, out, 3, 3, 3, bias=False)
        if into != out:
            conv(name + ".conv3.conv", out, into, 1, 1, 1, bias=False)

    widths = [c["filters"] * m for m in c["channel_multipliers"]]
    last, embed, blocks = len(widths) - 1, c["latent_embed_dim"], range(c["num_res_blocks"])
    conv(p + "encoder.conv_in.conv", c["filters"], c["in_out_channels"], 3, 3, 3, bias=False)
    conv(p + "encoder.conv2.conv", 2 * embed, widths[-1], 1, 1, 1)
    conv(p + "decoder.conv1.conv", widths[-1], embed, 3, 3, 3)
    conv(p + "decoder.conv_out.conv", c["in_out_channels"], widths[0], 3, 3, 3)
    norm(p + "encoder.norm1", widths[-1])
    norm(p + "decoder.norm1", widths[0])
    conv(p + "quant_conv.conv", 2 * c["embed_dim"], 2 * embed, 1, 1, 1)
    conv(p + "post_quant_conv.conv", embed, c["embed_dim"], 1, 1, 1)
    for half in ("encoder", "decoder"):
        for j in blocks:
            clip_block(p + f"{half}.res_blocks.{j}", widths[-1], widths[-1])
        for i, out in enumerate(widths):
            into = widths[max(i - 1, 0)] if half == "encoder" else widths[min(i + 1, last)]
            for j in blocks:
                clip_block(p + f"{half}.block_res_blocks.{i}.{j}", into if j == 0 else out, out)
            if half == "encoder" and i < last and c["temporal_downsample"][i]:
                conv(p + f"encoder.conv_blocks.{i}.conv", out, out, 3, 3, 3)
            if half == "decoder" and i > 0 and c["temporal_downsample"][i - 1]:
                conv(p + f"decoder.conv_blocks.{i - 1}.conv", 2 * out, out, 3, 3, 3)
    return s


def read(part):
    return json.loads((BUILTIN / part / "config.json").read_text())


def make_model(folder, transformer, text, autoencoder):
    for part, config, file, shapes in (("transformer", transformer, "diffusion_pytorch_model", stdit3),
                                       ("text_encoder", text, "model", t5),
                                       ("vae", autoencoder, "diffusion_pytorch_model", vae)):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
        write_weights(folder / part / (file + ".safetensors"), shapes(config))
    for part in ("tokenizer", "scheduler", "model_index.json"):
        (folder / part).symlink_to(BUILTIN / part)
    return folder


def wide_model(folder):
    """Widths of STDiT3-XL/2 and of T5 v1.1 XXL, two layers and one."""
    autoencoder = read("vae")
    transformer = {**read("transformer"), "hidden_size": 1152, "num_heads": 16, "depth": 2, "patch_size": [1, 2, 2],
                   "caption_channels": 4096, "model_max_length": 300, "pred_sigma": True}
    text = {**read("text_encoder"), "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 1}
    return make_model(folder, transformer, text, autoencoder)


def vae_model(folder):
    """Open-Sora 1.2's autoencoder."""
    autoencoder = {
        "model_type": "VideoAutoencoderPipeline", "micro_frame_size": 17, "scale": [3.85, 2.32, 2.33, 3.06], "shift": [-0.10, 0.34, 0.27, 0.98],
        "vae_2d": {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 32,
                   "mid_block_add_attention": True, "micro_batch_size": 4},
        "vae_temporal": {"in_out_channels": 4, "latent_embed_dim": 4, "embed_dim": 4, "filters": 128, "num_res_blocks": 4,
                         "channel_multipliers": [1, 2, 2, 4], "temporal_downsample": [False, True, True], "num_groups": 32}}
    return make_model(folder, {**read("transformer"), "in_channels": 4}, read("text_encoder"), autoencoder)


def run(*args, status=0):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, env=environment)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, args))}: status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout) if status == 0 else done.stderr


def request(model, dtype, frames, height, width, memory=None):
    return ["a red ball", "--model", model, "--dtype", dtype, "--frames", frames, "--height", height, "--width", width,
            "--steps", 1, *(["--memory", f"{memory}MB"] if memory else [])]


def compare(program, model, output, ranks, layout, *size):
    """-> planned and taken, in bytes, and what generate said."""
    common = [*request(model, *size), *(["--ranks", ranks, "--parallel", layout] if ranks > 1 else [])]
    plan = run(program, "plan", *common, "--json")
    made = run(program, "generate", *common, "--json", "--output", output)
    peaks = made["parallel"]["peak_resident_bytes"] if ranks > 1 else [made["peak_resident_bytes"]]
    return plan["peak_resident_bytes"], max(peaks), made


def fits_as_named(program, model, dtype, frames, height, width, memory, output):
    """The refusal's size, and its resident peak in MB."""
    refusal = run(program, "generate", *request(model, dtype, frames, height, width, memory), "--output", output, status=69)
    named = re.search(r"(\d+) frames? of (\d+)x(\d+) would fit", refusal)
    if not named:
        sys.exit(f"no size is named: {refusal}")
    size = [int(n) for n in named.groups()]
    made = run(program, "generate", *request(model, dtype, *size, memory), "--json", "--output", output)
    return size, made["peak_resident_bytes"] / 1e6


def within_a_limit(program, model, dtype, frames, height, width, share, output):
    """The limit in MB, what is planned and what is taken within it."""
    whole = run(program, "plan", *request(model, dtype, frames, height, width), "--json")
    least = int(whole["least_memory"].removesuffix("MB"))
    memory = round(least + share * (whole["peak_resident_bytes"] / 1e6 - least))
    common = request(model, dtype, frames, height, width, memory)
    plan, made = run(program, "plan", *common, "--json"), run(program, "generate", *common, "--json", "--output", output)
    if not (made["in_pieces"] or made["streams_weights"] or plan["branches_apart"]):
        sys.exit(f"{frames}x{height}x{width} within {memory} MB runs whole")
    return memory, plan["peak_resident_bytes"] / 1e6, made["peak_resident_bytes"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--markdown", type=Path, help="file for the table")
    parser.add_argument("--only", help="sizes whose name holds this")
    parser.add_argument("--threads", type=int, help="default: LibTorch's choice")
    parser.add_argument("--ranks", type=int, nargs="+", help="many ranks in the stead of one process")
    o = parser.parse_args()
    if o.threads:
        environment["OMP_NUM_THREADS"] = str(o.threads)
    rows, bad = [], 0
    with tempfile.TemporaryDirectory(prefix="kinora-memory-") as work:
        work = Path(work)
        models = {"builtin": BUILTIN, "wide": wide_model(work / "wide"), "vae": vae_model(work / "vae")}
        on_ranks = [(n, "guidance+dsp" if layout == "guidance" and n > 2 else layout, *size) for n in o.ranks or () for layout, *size in ON_RANKS]
        cases = on_ranks or [(1, "", *size) for size in SIZES]
        for ranks, layout, model, dtype, frames, height, width in cases:
            name = f"{model} {dtype} {frames}x{height}x{width} {layout}"
            if o.only and o.only not in name:
                continue
            planned, taken, made = compare(o.program, models[model], work / "out.mp4", ranks, layout, dtype, frames, height, width)
            ratio = planned / taken
            bad += not 0.95 <= ratio <= 1.15
            where = f"| {ranks} | {layout} " if o.ranks else ""
            rows.append(f"{where}| {model} | {dtype} | {frames}x{height}x{width} | {planned / 1e6:.0f} | {taken / 1e6:.0f} | {ratio:.3f} |")
            print(rows[-1], f"counted {made['peak_counted_bytes'] / 1e6:.0f}", f"{made['seconds']:.0f} s", flush=True)
        print(f"{len(rows) - bad} of {len(rows)} within 0.95 to 1.15", flush=True)
        for model, dtype, frames, height, width, share in [] if o.ranks else LIMITED:
            name = f"{model} {dtype} {frames}x{height}x{width} limited"
            if o.only and o.only not in name:
                continue
            memory, planned, peak = within_a_limit(o.program, models[model], dtype, frames, height, width, share, work / "out.mp4")
            bad += not 0.95 <= planned / peak <= 1.15 or peak > memory
            rows.append(f"| {model}, within {memory} MB | {dtype} | {frames}x{height}x{width} | {planned:.0f} | {peak:.0f} | {planned / peak:.3f} |")
            print(rows[-1], flush=True)
        for model, dtype, frames, height, width, memory in [] if o.only or o.ranks else TOO_LARGE:
            (n, h, w), peak = fits_as_named(o.program, models[model], dtype, frames, height, width, memory, work / "fit.mp4")
            bad += peak > memory
            print(f"{model} {dtype} {frames}x{height}x{width} in {memory} MB: refused; {n}x{h}x{w} took {peak:.0f} MB", flush=True)
    if o.markdown:
        heads = [*(["ranks", "layout"] if o.ranks else []), "model", "dtype", "clip", "planned, MB", "resident peak, MB", "planned / peak"]
        o.markdown.write_text("\n".join([f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *rows]) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
