"""A training config of a model of a few thousand weights, for tests of the program."""

TINY = {
    "world": {"height": 32, "width": 32, "frames": 9, "fps": 8, "sizes": [{"name": "", "radius_px": [6, 7]}], "speed_px": [0.7, 1.0]},
    "vae": {
        "vae_2d": {"block_out_channels": [8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
                   "mid_block_add_attention": False},
        "vae_temporal": {"in_out_channels": 4, "latent_embed_dim": 4, "embed_dim": 4, "filters": 8, "num_res_blocks": 1,
                         "channel_multipliers": [1, 1, 2], "temporal_downsample": [True, True], "num_groups": 4},
        "scale": [1, 1, 1, 1], "shift": [0, 0, 0, 0], "spatial_scaling_factor": 1.0, "micro_frame_size": None},
    "transformer": {"hidden_size": 32, "depth": 1, "num_heads": 2, "patch_size": [1, 2, 2], "input_sq_size": 32, "model_max_length": 24},
    "text_encoder": {"model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2,
                     "feed_forward_proj": "gated-gelu"},
    "dtype": "float32",
    "defaults": {"height": 32, "width": 32, "num_frames": 9, "steps": 4, "guidance_scale": 3.0, "fps": 8, "prompt": "plain"},
    "stages": {"gate": 0.0, "gate_clips": 1,
               "spatial": {"steps": 2, "batch": 4, "lr": 0.001, "crops_side": 16, "crops_per_clip": 2},
               "temporal": {"steps": 2, "batch": 2, "lr": 0.001, "clips": 4},
               "denoiser": {"steps": 2, "batch": 2, "lr": 0.001, "clips": 4}},
}
