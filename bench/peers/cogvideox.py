"""diffusers' CogVideoXTransformer3DModel at the widths of CogVideoX-5B: `kinora bench cogvideox`."""
import torch

import peer


def rotary(o, config):
    """Cosines and sines as the pipeline gives them; the crop of the sample's grid does not matter to time."""
    embeddings = peer.load("diffusers.models.embeddings")
    height, width = o.latent[1] // config.patch_size, o.latent[2] // config.patch_size
    return embeddings.get_3d_rotary_pos_embed(embed_dim=config.attention_head_dim, crops_coords=((0, 0), (height, width)),
                                              grid_size=(height, width), temporal_size=o.latent[0])


def build(o, dtype):
    diffusers = peer.load("diffusers")
    model = peer.made_in(dtype, lambda: diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=48, num_layers=o.layers, use_rotary_positional_embeddings=True))
    c = model.config
    frames, height, width = o.latent
    latents = torch.randn(o.batch, frames, c.in_channels, height, width, dtype=dtype)
    text = torch.randn(o.batch, o.text_tokens, c.text_embed_dim, dtype=dtype)
    timestep = torch.full((o.batch,), 500)
    positions = rotary(o, c)
    hidden = c.num_attention_heads * c.attention_head_dim
    rows = o.batch * frames * (height // c.patch_size) * (width // c.patch_size)
    return peer.Work(model, lambda: model(latents, text, timestep, image_rotary_emb=positions), (rows, 4 * hidden, hidden))


if __name__ == "__main__":
    peer.main(__doc__, "CogVideoX-5B", "diffusers", build, {"layers": 42, "latent": [5, 32, 32], "batch": 2, "text_tokens": 226})
