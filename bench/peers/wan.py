"""diffusers' WanTransformer3DModel at the widths of Wan2.1-T2V-1.3B."""
import torch

import peer


def build(o, dtype):
    diffusers = peer.load("diffusers")
    model = peer.made_in(dtype, lambda: diffusers.WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=o.layers))
    c = model.config
    frames, height, width = o.latent
    latents = torch.randn(o.batch, c.in_channels, frames, height, width, dtype=dtype)
    text = torch.randn(o.batch, o.text_tokens, c.text_dim, dtype=dtype)
    timestep = torch.full((o.batch,), 500)
    rows = o.batch * frames * (height // 2) * (width // 2)
    product = (rows, c.ffn_dim, c.num_attention_heads * c.attention_head_dim)
    return peer.Work(model, lambda: model(latents, timestep, text), product)


if __name__ == "__main__":
    peer.main(__doc__, "Wan2.1-T2V-1.3B", "diffusers", build, {"layers": 30, "latent": [5, 32, 32], "batch": 2, "text_tokens": 512})
