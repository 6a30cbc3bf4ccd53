"""diffusers' LatteTransformer3DModel at the widths of Latte-1."""
import torch

import peer


def build(o, dtype):
    diffusers = peer.load("diffusers")
    frames, height, width = o.latent
    model = peer.made_in(dtype, lambda: diffusers.LatteTransformer3DModel(
        num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=o.layers, cross_attention_dim=1152,
        attention_bias=True, sample_size=height, patch_size=2, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
        norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, caption_channels=4096, video_length=frames))
    latents = torch.randn(o.batch, 4, frames, height, width, dtype=dtype)
    text = torch.randn(o.batch, o.text_tokens, 4096, dtype=dtype)
    timestep = torch.full((o.batch,), 500)
    rows = o.batch * frames * (height // 2) * (width // 2)
    return peer.Work(model, lambda: model(latents, timestep=timestep, encoder_hidden_states=text), (rows, 4 * 1152, 1152))


if __name__ == "__main__":
    peer.main(__doc__, "Latte-1", "diffusers", build, {"layers": 28, "latent": [16, 32, 32], "batch": 2, "text_tokens": 120})
