#include "seams/subjects.h"

#include <cmath>
#include <limits>
#include <memory>

#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/test_configs.h"
#include "kinora/models/wan/transformer.h"
#include "kinora/nn/test_weights.h"

namespace kinora::seams {
namespace {

/// In the dtype of the latents, as far as there is one.
Tensor like(const Tensor& t, const Tensor& latents) { return t.defined() ? t.to(latents.scalar_type()) : t; }

Subject make_stdit3_of(bool masks) {
  models::STDiT3Config config = models::tiny_stdit3();
  config.pred_sigma = false;  // what comes out is of the latents' shape
  const auto model = std::make_shared<models::STDiT3>(config);
  models::STDiT3Inputs in;
  in.caption = normal({2, 1, 6, 12}, 2);
  in.caption_mask = prefix_mask({6, 4}, 6);
  in.fps = at::full({1}, 24, at::kDouble);
  in.height = 40, in.width = 48;
  if (masks) {
    in.frame_mask = at::ones({2, 3}, at::kBool);
    in.frame_mask.narrow(1, 0, 1).fill_(false);
  }
  Subject s{.name = "STDiT3",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, 4, 3, 5, 6}, 1),
            .blocks = 4,
            .attention_exchanges = 2 * 2,
            .facts = {.name = "STDiT3", .width = 16, .heads = 2, .along_frames = 2, .along_rows = 2, .outputs = 16},
            .extent = {.frames = 3, .rows = 9}};
  s.values[static_cast<size_t>(model->params().find("rope.freqs")->id)].abs_();
  s.predict = [model, in](const Run& run, const Tensor& latents, double timestep) {
    models::STDiT3Inputs now = in;
    now.latents = latents;
    now.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    if (latents.size(0) == 1) {  // one branch alone: its caption
      const int64_t which = !run.rows.empty() && run.rows[0] == Branch::cond ? 1 : 0;
      now.caption = in.caption.narrow(0, which, 1), now.caption_mask = in.caption_mask.narrow(0, which, 1);
      if (in.frame_mask.defined()) now.frame_mask = in.frame_mask.narrow(0, which, 1);
    }
    return model->forward(run, now);
  };
  return s;
}

}  // namespace

Subject make_stdit3() { return make_stdit3_of(false); }
Subject make_stdit3_with_given_frame() { return make_stdit3_of(true); }

Subject make_cogvideox() {
  models::cogvideox::CogVideoXConfig config = models::tiny_cogvideox();
  config.out_channels = config.in_channels;
  config.use_rotary_positional_embeddings = true;
  const auto model = std::make_shared<models::cogvideox::CogVideoXTransformer>(config);
  models::cogvideox::CogVideoXTransformer::Inputs in;
  in.encoder_hidden_states = normal({2, config.max_text_seq_length, config.text_embed_dim}, 4);
  in.rotary = models::cogvideox::rotary_positions(config, 3, 6, 6);
  in.rotary = {in.rotary.cos.to(at::kDouble), in.rotary.sin.to(at::kDouble)};
  Subject s{.name = "CogVideoX",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, 3, 3, 6, 6}, 3),
            .blocks = 2,
            .has_text_stream = true,
            .attention_exchanges = 2 * 3,
            .facts = {.name = "CogVideoX", .width = 32, .heads = 2, .along_all = 2, .outputs = 12},
            .extent = {.frames = 3, .rows = 9},
            .text_rows = config.max_text_seq_length};
  s.predict = [model, in](const Run& run, const Tensor& latents, double timestep) {
    auto now = in;
    now.hidden_states = latents;
    now.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    now.rotary = {like(in.rotary.cos, latents), like(in.rotary.sin, latents)};
    if (latents.size(0) == 1) {
      const int64_t which = !run.rows.empty() && run.rows[0] == Branch::cond ? 1 : 0;
      now.encoder_hidden_states = in.encoder_hidden_states.narrow(0, which, 1);
    }
    now.encoder_hidden_states = like(now.encoder_hidden_states, latents);
    return model->forward(run, now);
  };
  return s;
}

Subject make_latte() {
  constexpr int64_t kFrames = 3;
  models::latte::LatteConfig config = models::tiny_latte();
  config.out_channels = config.in_channels;
  const auto model = std::make_shared<models::latte::LatteTransformer>(config);
  models::latte::LatteTransformer::Inputs in;
  in.encoder_hidden_states = normal({2, 6, config.caption_channels}, 4);
  in.encoder_attention_mask = ((1 - prefix_mask({6, 5, 4, 3, 2, 6}, 6)) * -10000.0).unsqueeze(1);
  Subject s{.name = "Latte",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, config.in_channels, kFrames, 6, 6}, 3),
            .blocks = 4,
            .attention_exchanges = 2 * 2,
            .facts = {.name = "Latte", .width = 16, .heads = 2, .along_frames = 2, .along_rows = 2, .outputs = 12},
            .extent = {.frames = 3, .rows = 9}};
  s.predict = [model, in](const Run& run, const Tensor& latents, double timestep) {
    auto now = in;
    now.hidden_states = latents;
    now.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    if (latents.size(0) == 1) {
      const int64_t which = !run.rows.empty() && run.rows[0] == Branch::cond ? 1 : 0;
      now.encoder_hidden_states = in.encoder_hidden_states.narrow(0, which, 1);
      now.encoder_attention_mask = in.encoder_attention_mask.narrow(0, which * kFrames, kFrames);
    }
    now.encoder_hidden_states = like(now.encoder_hidden_states, latents);
    return model->forward(run, now);
  };
  return s;
}

Subject make_wan_with_given_frame() {
  models::wan::WanConfig config = models::tiny_wan();
  config.out_channels = config.in_channels;
  const auto model = std::make_shared<models::wan::WanTransformer>(config);
  const Tensor text = normal({2, 6, config.text_dim}, 4);
  Subject s{
      .name = "Wan",
      .params = &model->params(),
      .values = drawn_weights(model->params(), 100),
      .latents = normal({2, 3, 3, 6, 6}, 3),
      .blocks = 2,
      .attention_exchanges = 2 * 2,
      .facts = {.name = "Wan", .width = 32, .heads = 2, .along_all = 2, .outputs = 12, .norms_across_heads = true},
      .extent = {.frames = 3, .rows = 9}};
  s.predict = [model, text](const Run& run, const Tensor& latents, double timestep) {
    models::wan::WanTransformer::Inputs now;
    now.hidden_states = latents;
    now.timestep = at::full({latents.size(0), 3 * 9}, timestep, at::kDouble);
    now.timestep.narrow(1, 0, 9).zero_();
    const int64_t which = !run.rows.empty() && run.rows[0] == Branch::cond ? 1 : 0;
    now.encoder_hidden_states = like(latents.size(0) == 1 ? text.narrow(0, which, 1) : text, latents);
    return model->forward(run, now);
  };
  return s;
}

std::vector<Tensor> denoise(const Subject& subject, Run run, std::span<const double> schedule) {
  return denoise(subject, run, schedule, subject.latents);
}

std::vector<Tensor> denoise(const Subject& subject, Run run, std::span<const double> schedule, const Tensor& latents) {
  Tensor x = latents;
  std::vector<Tensor> predictions;
  for (size_t call = 0; call < schedule.size(); ++call) {
    run.step = {.call = static_cast<int>(call),
                .calls = static_cast<int>(schedule.size()),
                .timestep = schedule[call],
                .schedule = schedule};
    predictions.push_back(subject.predict(run, x, schedule[call]));
    x = x + predictions.back() * 0.05;
  }
  return predictions;
}

double distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].sizes() != b[i].sizes()) return std::numeric_limits<double>::infinity();
    const double d = (a[i] - b[i]).abs().max().item<double>();
    worst = std::max(worst, std::isnan(d) ? std::numeric_limits<double>::infinity() : d);
  }
  return worst;
}

bool identical(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].equal(b[i])) return false;
  }
  return true;
}

}  // namespace kinora::seams
