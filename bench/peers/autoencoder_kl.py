"""diffusers' AutoencoderKL, the autoencoder of Stable Diffusion and SDXL, decoding: `kinora bench autoencoder`."""
import torch

import peer

WIDTHS = (128, 256, 512, 512)


def build(o, dtype):
    diffusers = peer.load("diffusers")
    model = peer.made_in(dtype, lambda: diffusers.AutoencoderKL(
        block_out_channels=WIDTHS, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2, sample_size=512))
    frames, height, width = o.clip
    latents = torch.randn(frames, 4, height // 8, width // 8, dtype=dtype)
    return peer.Work(model, lambda: model.decode(latents), (frames * height * width, WIDTHS[0], 9 * WIDTHS[0]))


if __name__ == "__main__":
    peer.main(__doc__, "AutoencoderKL", "diffusers", build, {"clip": [1, 256, 256]})
