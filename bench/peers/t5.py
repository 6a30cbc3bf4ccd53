"""transformers' T5EncoderModel at the widths of T5 v1.1 XXL, the text encoder of Open-Sora and CogVideoX: `kinora bench t5`."""
import torch

import peer


def build(o, dtype):
    transformers = peer.load("transformers")
    config = transformers.T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=o.layers, feed_forward_proj="gated-gelu",
                                   tie_word_embeddings=False)
    model = peer.made_in(dtype, lambda: transformers.T5EncoderModel(config))
    ids = torch.randint(config.vocab_size, (o.batch, o.text_tokens))
    return peer.Work(model, lambda: model(input_ids=ids), (o.batch * o.text_tokens, config.d_ff, config.d_model))


if __name__ == "__main__":
    peer.main(__doc__, "T5 v1.1 XXL", "transformers", build, {"layers": 24, "batch": 2, "text_tokens": 226})
