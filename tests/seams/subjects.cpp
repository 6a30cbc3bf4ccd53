#include "seams/subjects.h"

#include <cmath>
#include <limits>
#include <memory>

#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/tensor/random.h"

namespace kinora::seams {
namespace {

Tensor draw(at::IntArrayRef shape, uint64_t seed) {
  at::Generator generator = cpu_generator(seed);
  return at::empty(shape, at::kDouble).normal_(0, 1, generator);
}

/// Every parameter drawn: the first values of training leave half of the sublayers without effect.
std::vector<Tensor> draw_all(const Params& params) {
  std::vector<Tensor> values;
  for (const Param& p : params) {
    const double scale = p.shape.size() == 1 ? 0.2 : 0.8 / std::sqrt(static_cast<double>(p.shape.back()));
    const Tensor noise = draw(p.shape, 100 + static_cast<uint64_t>(p.id)) * scale;
    const bool is_norm = p.shape.size() == 1 && p.name.ends_with("weight");
    values.push_back(p.name == "rope.freqs" ? noise.abs() : is_norm ? noise + 1 : noise);
  }
  return values;
}

Subject make_stdit3_of(bool masks) {
  models::STDiT3Config config;
  config.hidden_size = 16;
  config.depth = 2;
  config.num_heads = 2;
  config.caption_channels = 12;
  config.model_max_length = 6;
  config.pred_sigma = false;
  const auto model = std::make_shared<models::STDiT3>(config);
  models::STDiT3Inputs in;
  in.caption = draw({2, 1, 6, 12}, 2);
  in.caption_mask = at::ones({2, 6}, at::kLong);
  in.caption_mask[1].narrow(0, 4, 2).zero_();
  in.fps = at::full({1}, 24, at::kDouble);
  in.height = 40, in.width = 48;
  if (masks) {
    in.frame_mask = at::ones({2, 3}, at::kBool);
    in.frame_mask.narrow(1, 0, 1).fill_(false);
  }
  Subject s{.name = "STDiT3",
            .params = &model->params(),
            .values = draw_all(model->params()),
            .latents = draw({2, 4, 3, 5, 6}, 1),
            .blocks = 4,
            .attention_exchanges = 2 * 2};
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
  models::cogvideox::CogVideoXConfig config;
  config.num_attention_heads = 2;
  config.attention_head_dim = 16;
  config.in_channels = config.out_channels = 3;
  config.time_embed_dim = 12;
  config.text_embed_dim = 14;
  config.num_layers = 2;
  config.sample_width = 10;
  config.sample_height = 6;
  config.sample_frames = 9;
  config.max_text_seq_length = 5;
  config.use_rotary_positional_embeddings = true;
  const auto model = std::make_shared<models::cogvideox::CogVideoXTransformer>(config);
  models::cogvideox::CogVideoXTransformer::Inputs in;
  in.encoder_hidden_states = draw({2, 5, 14}, 4);
  in.rotary = models::cogvideox::rotary_positions(config, 3, 6, 6);
  in.rotary = {in.rotary.cos.to(at::kDouble), in.rotary.sin.to(at::kDouble)};
  Subject s{.name = "CogVideoX",
            .params = &model->params(),
            .values = draw_all(model->params()),
            .latents = draw({2, 3, 3, 6, 6}, 3),
            .blocks = 2,
            .attention_exchanges = 2 * 3};
  s.predict = [model, in](const Run& run, const Tensor& latents, double timestep) {
    auto now = in;
    now.hidden_states = latents;
    now.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    if (latents.size(0) == 1) {
      const int64_t which = !run.rows.empty() && run.rows[0] == Branch::cond ? 1 : 0;
      now.encoder_hidden_states = in.encoder_hidden_states.narrow(0, which, 1);
    }
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
