// kinora bench dit, cache, cogvideox, latte, wan, t5, autoencoder, vae: whole models at their published sizes, with random weights.
#include <ATen/ATen.h>

#include <memory>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/cli/bench_model.h"
#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/models/vae/autoencoder_kl.h"
#include "kinora/models/wan/transformer.h"
#include "kinora/text/t5.h"

namespace kinora::cli {
namespace {

using at::Tensor;
using Options = BenchModelOptions;

Json video_line(const char* bench, const char* model, const Options& o) {
  return {{"bench", bench},     {"model", model},   {"layers", o.layers},
          {"latent", o.latent}, {"batch", o.batch}, {"text_tokens", o.text_tokens}};
}

BenchModel dit(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--latent", o.latent, kMostBenchSize);
  models::STDiT3Config config;
  config.depth = o.layers;
  const auto model = std::make_shared<models::STDiT3>(config);
  models::STDiT3Inputs in;
  in.latents = at::randn({o.batch, config.in_channels, o.latent[0], o.latent[1], o.latent[2]});
  in.timestep = at::full({o.batch}, 500.0, at::kFloat);
  in.caption = at::randn({o.batch, 1, config.model_max_length, config.caption_channels}, dtype);
  in.caption_mask = at::arange(config.model_max_length, at::kLong).lt(o.text_tokens).to(at::kLong).unsqueeze(0);
  in.fps = at::full({1}, 24.0, at::kFloat);
  in.height = static_cast<double>(8 * o.latent[1]);
  in.width = static_cast<double>(8 * o.latent[2]);
  const auto patches = [](int64_t size) { return (size + 1) / 2; };
  return {.line = video_line("dit", "STDiT3-XL/2", o),
          // As in a denoising, what the model is told changes from call to call.
          .forward =
              [model, in](const Run& run) {
                if (run.step.calls > 1) in.timestep.fill_(run.step.timestep);
                model->forward(run, in);
              },
          .params = &model->params(),
          .flops = models::stdit3_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch),
          .product = {o.batch * o.latent[0] * patches(o.latent[1]) * patches(o.latent[2]), config.mlp_size(),
                      config.hidden_size}};
}

void check_even(const std::vector<int64_t>& latent) {
  if (latent[1] % 2 == 0 && latent[2] % 2 == 0) return;
  throw UsageError(concat("--latent ", latent[1], " x ", latent[2], " does not divide into patches"),
                   "give an even height and width");
}

/// The transformer of CogVideoX-5B.
BenchModel cogvideox(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--latent", o.latent, kMostBenchSize);
  check_even(o.latent);
  models::cogvideox::CogVideoXConfig config;
  config.num_attention_heads = 48;
  config.num_layers = o.layers;
  config.use_rotary_positional_embeddings = true;
  const auto model = std::make_shared<models::cogvideox::CogVideoXTransformer>(config);
  models::cogvideox::CogVideoXTransformer::Inputs in;
  in.hidden_states = at::randn({o.batch, o.latent[0], config.in_channels, o.latent[1], o.latent[2]}, dtype);
  in.encoder_hidden_states = at::randn({o.batch, o.text_tokens, config.text_embed_dim}, dtype);
  in.timestep = at::full({o.batch}, 500, at::kLong);
  in.rotary = models::cogvideox::rotary_positions(config, o.latent[0], o.latent[1], o.latent[2]);
  const int64_t tokens = o.latent[0] * (o.latent[1] / config.patch_size) * (o.latent[2] / config.patch_size);
  return {.line = video_line("cogvideox", "CogVideoX-5B", o),
          .forward = [model, in](const Run& run) { model->forward(run, in); },
          .params = &model->params(),
          .flops =
              models::cogvideox::cogvideox_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch),
          .product = {o.batch * tokens, 4 * config.width(), config.width()}};
}

/// The transformer of Latte-1.
BenchModel latte(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--latent", o.latent, kMostBenchSize);
  check_even(o.latent);
  models::latte::LatteConfig config;
  config.attention_head_dim = 72;
  config.out_channels = 8;
  config.num_layers = o.layers;
  config.attention_bias = true;
  config.sample_size = o.latent[1];
  config.feed_forward = {ops::Activation::gelu_tanh, false};
  config.norm_elementwise_affine = false;
  config.norm_eps = 1e-6;
  config.video_length = o.latent[0];
  const auto model = std::make_shared<models::latte::LatteTransformer>(config);
  models::latte::LatteTransformer::Inputs in;
  in.hidden_states = at::randn({o.batch, config.in_channels, o.latent[0], o.latent[1], o.latent[2]}, dtype);
  in.encoder_hidden_states = at::randn({o.batch, o.text_tokens, config.caption_channels}, dtype);
  in.timestep = at::full({o.batch}, 500, at::kLong);
  const int64_t tokens = o.latent[0] * (o.latent[1] / 2) * (o.latent[2] / 2);
  return {.line = video_line("latte", "Latte-1", o),
          .forward = [model, in](const Run& run) { model->forward(run, in); },
          .params = &model->params(),
          .flops = models::latte::latte_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch),
          .product = {o.batch * tokens, 4 * config.width(), config.width()}};
}

/// The transformer of Wan 2.1 from text, 1.3B.
BenchModel wan(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--latent", o.latent, kMostBenchSize);
  check_even(o.latent);
  models::wan::WanConfig config;
  config.num_attention_heads = 12;
  config.ffn_dim = 8960;
  config.num_layers = o.layers;
  const auto model = std::make_shared<models::wan::WanTransformer>(config);
  models::wan::WanTransformer::Inputs in;
  in.hidden_states = at::randn({o.batch, config.in_channels, o.latent[0], o.latent[1], o.latent[2]}, dtype);
  in.encoder_hidden_states = at::randn({o.batch, o.text_tokens, config.text_dim}, dtype);
  in.timestep = at::full({o.batch}, 500, at::kLong);
  const int64_t tokens = o.latent[0] * (o.latent[1] / 2) * (o.latent[2] / 2);
  return {.line = video_line("wan", "Wan2.1-T2V-1.3B", o),
          .forward = [model, in](const Run& run) { model->forward(run, in); },
          .params = &model->params(),
          .flops = models::wan::wan_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch),
          .product = {o.batch * tokens, config.ffn_dim, config.width()}};
}

/// The encoder of T5 v1.1 XXL, which Open-Sora and CogVideoX use.
BenchModel t5(const Options& o, at::ScalarType) {
  text::T5Config config;
  config.d_model = 4096;
  config.d_ff = 10240;
  config.num_heads = 64;
  config.num_layers = o.layers;
  config.activation = ops::Activation::gelu_tanh;
  config.gated = true;
  const auto model = std::make_shared<text::T5Encoder>(config);
  const Tensor ids = at::randint(config.vocab_size, {o.batch, o.text_tokens}, at::kLong);
  return {.line = {{"bench", "t5"},
                   {"model", "T5 v1.1 XXL"},
                   {"layers", o.layers},
                   {"batch", o.batch},
                   {"text_tokens", o.text_tokens}},
          .forward = [model, ids](const Run& run) { model->forward(run, ids); },
          .params = &model->params(),
          .flops = text::t5_flops(config, o.text_tokens, o.batch),
          .product = {o.batch * o.text_tokens, config.d_ff, config.d_model}};
}

struct PictureVae {
  Params params;
  models::AutoencoderKl model;
  explicit PictureVae(const models::AutoencoderKlConfig& config) : model(Scope(params), config) {}
};

/// The decoder of the picture autoencoder of Stable Diffusion and SDXL, which is a half of Open-Sora 1.2's.
BenchModel autoencoder(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--clip", o.clip, kMostBenchSize);
  const models::AutoencoderKlConfig config = models::AutoencoderKlConfig::sdxl();
  const int64_t h = o.clip[1] / config.downscale(), w = o.clip[2] / config.downscale();
  if (h < 1 || w < 1)
    throw UsageError(concat("--clip ", o.clip[1], " x ", o.clip[2], " is less than one latent"),
                     concat("give at least ", config.downscale(), " pixels each way"));
  const auto vae = std::make_shared<PictureVae>(config);
  const Tensor latents = at::randn({o.clip[0], config.latent_channels, h, w}, dtype);
  const int64_t width = config.block_out_channels.front();
  return {.line = {{"bench", "autoencoder"}, {"model", "AutoencoderKL"}, {"work", "decode"}, {"clip", o.clip}},
          .forward = [vae, latents](const Run& run) { vae->model.decode(run, latents); },
          .params = &vae->params,
          .flops = models::decode_flops(config, h, w, o.clip[0]),
          .product = {o.clip[0] * o.clip[1] * o.clip[2], width, 9 * width},
          .frames = o.clip[0]};
}

/// Its calls are long and made of many alike, so that the first need not be a warm-up.
BenchModel vae(const Options& o, at::ScalarType dtype) {
  check_three_sizes("--clip", o.clip, kMostBenchSize);
  const auto model = std::make_shared<models::VideoVae>(models::VideoVaeConfig{});
  const auto [t, h, w] = model->latent_size({o.clip[0], o.clip[1], o.clip[2]});
  const Tensor in = o.encode ? at::rand({1, 3, o.clip[0], o.clip[1], o.clip[2]}, dtype)
                             : at::randn({1, model->latent_channels(), t, h, w}, dtype);
  const auto forward = [model, in, frames = o.clip[0], encode = o.encode](const Run& run) {
    if (encode)
      model->encode(run, in);
    else
      model->decode_chunks(run, in, frames, [](const Tensor&, int64_t) {});
  };
  return {.line = {{"bench", "vae"}, {"work", o.encode ? "encode" : "decode"}, {"clip", o.clip}},
          .forward = forward,
          .params = &model->params(),
          .frames = o.clip[0],
          .warm_up = false};
}

struct Command {
  const char *name, *help, *example;
  MakeBenchModel make;
  Options defaults;
  void (*add_sizes)(CLI::App&, Options&);
  int (*measure)(const Options&, MakeBenchModel, Context&) = bench_model;
};

void add_latent(CLI::App& c, Options& o) {
  c.add_option("--latent", o.latent, "latent frames, height, width")->expected(3)->capture_default_str();
}

void add_budget(CLI::App& c, Options& o) {
  c.add_option("--budget", o.budget,
               "instead: activations with blocks in pieces, within these shares of the plain peak")
      ->check(CLI::Range(0.001, 1.0));
}

void add_clip(CLI::App& c, Options& o) {
  c.add_option("--clip", o.clip, "frames, height, width")->expected(3)->capture_default_str();
}

void add_text(CLI::App& c, Options& o, int64_t most_tokens, const char* layers = "blocks") {
  c.add_option("--batch", o.batch, "rows; a guided clip has 2")->check(CLI::Range(1, 1024))->capture_default_str();
  c.add_option("--layers", o.layers, layers)->check(CLI::Range(1, 1000))->capture_default_str();
  c.add_option("--text-tokens", o.text_tokens, "tokens of each text")
      ->check(CLI::Range(int64_t{1}, most_tokens))
      ->capture_default_str();
}

void add_command(CLI::App& bench, Action& action, const Command& command) {
  const auto o = std::make_shared<Options>(command.defaults);
  CLI::App* c = bench.add_subcommand(command.name, command.help);
  c->footer(command.example);
  command.add_sizes(*c, *o);
  c->add_option("--dtype", o->dtype, "bfloat16, float32 or auto")->capture_default_str();
  c->add_option("--repeats", o->repeats, "the best of so many counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, make = command.make, measure = command.measure, &action] {
    action = [=](Context& context) { return (o->budget.empty() ? measure : bench_pieces)(*o, make, context); };
  });
}

}  // namespace

void add_bench_models(CLI::App& bench, Action& action) {
  add_command(bench, action,
              {.name = "dit",
               .help = "one call of STDiT3-XL/2, and its distance from the matrix products' rate",
               .example = "Example: kinora bench dit --latent 5 32 32 --batch 2 --layers 4 --dtype bfloat16",
               .make = dit,
               .defaults = {.layers = 28, .text_tokens = 300},
               .add_sizes = [](CLI::App& c, Options& o) {
                 add_latent(c, o), add_text(c, o, 300, "pairs of blocks"), add_budget(c, o);
               }});
  add_command(
      bench, action,
      {.name = "cache",
       .help = "a denoising with STDiT3-XL/2 and PAB: whether it is as fast as its hits predict",
       .example = "Example: kinora bench cache --latent 5 32 32 --layers 4 --steps 30",
       .make = dit,
       .defaults = {.layers = 28, .text_tokens = 300},
       .add_sizes =
           [](CLI::App& c, Options& o) {
             add_latent(c, o), add_text(c, o, 300, "pairs of blocks");
             c.add_option("--steps", o.steps, "of the denoising")->check(CLI::Range(2, 1000))->capture_default_str();
           },
       .measure = bench_cache});
  const auto add_dit = [](CLI::App& c, Options& o) { add_latent(c, o), add_text(c, o, 300, "pairs of blocks"); };
  add_command(bench, action,
              {.name = "parallel",
               .help = "one call of STDiT3-XL/2 over ranks, by every layout, and what is sent",
               .example = "Example: kinora launch -n 2 -- kinora bench parallel --latent 8 32 32 --layers 2",
               .make = dit,
               .defaults = {.latent = {8, 32, 32}, .layers = 2, .text_tokens = 120},
               .add_sizes = add_dit,
               .measure = bench_parallel});
  add_command(bench, action,
              {.name = "layouts",
               .help = "what the formulas say of STDiT3-XL/2 on 8 to 128 GPUs; nothing is measured",
               .example = "Example: kinora bench layouts --latent 64 128 128",
               .make = dit,
               .defaults = {.latent = {64, 128, 128}, .layers = 28, .text_tokens = 300},
               .add_sizes = add_dit,
               .measure = bench_layouts});
  add_command(bench, action,
              {.name = "cogvideox",
               .help = "one call of CogVideoX-5B's transformer, and its distance from that rate",
               .example = "Example: kinora bench cogvideox --latent 5 32 32 --layers 4",
               .make = cogvideox,
               .defaults = {.layers = 42, .text_tokens = 226},
               .add_sizes = [](CLI::App& c, Options& o) { add_latent(c, o), add_text(c, o, 4096), add_budget(c, o); }});
  add_command(bench, action,
              {.name = "latte",
               .help = "one call of Latte-1's transformer, and its distance from that rate",
               .example = "Example: kinora bench latte --layers 4",
               .make = latte,
               .defaults = {.latent = {16, 32, 32}, .layers = 28, .text_tokens = 120},
               .add_sizes = [](CLI::App& c, Options& o) {
                 add_latent(c, o), add_text(c, o, 4096, "pairs of blocks"), add_budget(c, o);
               }});
  add_command(bench, action,
              {.name = "wan",
               .help = "one call of Wan2.1-T2V-1.3B's transformer, and its distance from that rate",
               .example = "Example: kinora bench wan --latent 5 32 32 --layers 4",
               .make = wan,
               .defaults = {.layers = 30, .text_tokens = 512},
               .add_sizes = [](CLI::App& c, Options& o) { add_latent(c, o), add_text(c, o, 4096), add_budget(c, o); }});
  add_command(bench, action,
              {.name = "t5",
               .help = "one call of T5 v1.1 XXL's encoder, and its distance from that rate",
               .example = "Example: kinora bench t5 --layers 4 --text-tokens 120",
               .make = t5,
               .defaults = {.layers = 24, .text_tokens = 226},
               .add_sizes = [](CLI::App& c, Options& o) { add_text(c, o, 4096); }});
  add_command(bench, action,
              {.name = "autoencoder",
               .help = "pictures from Stable Diffusion's AutoencoderKL",
               .example = "Example: kinora bench autoencoder --clip 1 256 256",
               .make = autoencoder,
               .defaults = {.clip = {1, 256, 256}},
               .add_sizes = add_clip});
  add_command(bench, action,
              {.name = "vae",
               .help = "Open-Sora 1.2's video autoencoder",
               .example = "Example: kinora bench vae --clip 17 256 256",
               .make = vae,
               .defaults = {},
               .add_sizes = [](CLI::App& c, Options& o) {
                 add_clip(c, o);
                 c.add_flag("--encode", o.encode, "encode in place of decode");
               }});
}

}  // namespace kinora::cli
