// Where the runners are: a file per family adds its own; registry.cpp lists them.
#pragma once

#include "kinora/parity/registry.h"

namespace kinora::parity {

void add_cache_loops(Registry& registry);  ///< cache_loops.cpp: diffusers' step caches in whole loops
void add_cache(Registry& registry);        ///< cache.cpp: the decisions of step caches, whole sampling with them
void add_open_sora(Registry& registry);    ///< open_sora.cpp: STDiT3, its blocks and embedders
void add_vae(Registry& registry);          ///< vae.cpp: the autoencoders
void add_text(Registry& registry);         ///< text.cpp: T5, UMT5, CLIP encoders
void add_cogvideox(Registry& registry);    ///< cogvideox.cpp
void add_decoder(Registry& registry);      ///< decoder.cpp: Llama and OPT
void add_latte(Registry& registry);        ///< latte.cpp: also the parts that it has from PixArt-alpha
void add_wan(Registry& registry);          ///< wan.cpp
void add_tokenizers(Registry& registry);   ///< tokenizers.cpp: tokenizers and prompt cleaning
void add_metrics(Registry& registry);      ///< metrics.cpp: PSNR, SSIM, MSE
void add_schedulers(Registry& registry);   ///< schedulers.cpp: random numbers and schedulers
void add_tables(Registry& registry);       ///< tables.cpp: Open-Sora's sizes and lengths
void add_pipeline(Registry& registry);     ///< pipeline.cpp: mask strategies, whole RFLOW sampling

}  // namespace kinora::parity
