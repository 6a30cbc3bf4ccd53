#include "parallel/models.h"

#include "kinora/base/error.h"
#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/test_configs.h"
#include "kinora/models/wan/transformer.h"
#include "kinora/nn/test_weights.h"

namespace kinora::seams {

using parallel::Arrangement;

std::vector<Subject> subjects() {
  return {make_stdit3(), make_stdit3_with_given_frame(), make_latte(), make_cogvideox(), make_wan_with_given_frame()};
}

namespace {

Subject stdit3_of(int64_t width, int64_t frames, int64_t side) {
  models::STDiT3Config config = models::tiny_stdit3();
  config.hidden_size = width, config.num_heads = 4, config.pred_sigma = false;
  const auto model = std::make_shared<models::STDiT3>(config);
  Subject s{.name = "STDiT3",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, 4, frames, 2 * side, 2 * side}, 1),
            .facts = {.name = "STDiT3", .width = width, .heads = 4, .along_frames = 2, .along_rows = 2, .outputs = 16},
            .extent = {.frames = frames, .rows = side * side}};
  s.values[static_cast<size_t>(model->params().find("rope.freqs")->id)].abs_();
  const Tensor caption = normal({2, 1, 6, 12}, 2);
  s.predict = [model, caption](const Run& run, const Tensor& latents, double timestep) {
    models::STDiT3Inputs in;
    in.latents = latents, in.caption = caption.narrow(0, 0, latents.size(0));
    in.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    in.fps = at::full({1}, 24, at::kDouble);
    in.height = in.width = 128;
    return model->forward(run, in);
  };
  return s;
}

}  // namespace

Subject make_larger_stdit3() { return stdit3_of(64, 8, 8); }
Subject make_even_stdit3() { return stdit3_of(32, 4, 4); }

Subject make_larger_wan() {
  models::wan::WanConfig config = models::tiny_wan();
  config.num_attention_heads = 4, config.out_channels = config.in_channels;
  const auto model = std::make_shared<models::wan::WanTransformer>(config);
  const Tensor text = normal({2, 6, config.text_dim}, 4);
  Subject s{
      .name = "Wan",
      .params = &model->params(),
      .values = drawn_weights(model->params(), 100),
      .latents = normal({2, 3, 8, 16, 16}, 3),
      .facts = {.name = "Wan", .width = 64, .heads = 4, .along_all = 2, .outputs = 12, .norms_across_heads = true},
      .extent = {.frames = 8, .rows = 64}};
  s.predict = [model, text](const Run& run, const Tensor& latents, double timestep) {
    models::wan::WanTransformer::Inputs in;
    in.hidden_states = latents, in.encoder_hidden_states = text.narrow(0, 0, latents.size(0)).to(latents.scalar_type());
    in.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    return model->forward(run, in);
  };
  return s;
}

Subject make_larger_latte() {
  models::latte::LatteConfig config = models::tiny_latte();
  config.num_attention_heads = 4, config.attention_head_dim = 16, config.video_length = 8;
  config.out_channels = config.in_channels;
  const auto model = std::make_shared<models::latte::LatteTransformer>(config);
  const Tensor text = normal({2, 6, config.caption_channels}, 4);
  Subject s{.name = "Latte",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, 3, 8, 16, 16}, 3),
            .facts = {.name = "Latte", .width = 64, .heads = 4, .along_frames = 2, .along_rows = 2, .outputs = 12},
            .extent = {.frames = 8, .rows = 64}};
  s.predict = [model, text](const Run& run, const Tensor& latents, double timestep) {
    models::latte::LatteTransformer::Inputs in;
    in.hidden_states = latents, in.encoder_hidden_states = text.to(latents.scalar_type());
    in.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    return model->forward(run, in);
  };
  return s;
}

Subject make_larger_cogvideox() {
  models::cogvideox::CogVideoXConfig config = models::tiny_cogvideox();
  config.num_attention_heads = 4, config.out_channels = config.in_channels;
  config.use_rotary_positional_embeddings = true;
  const auto model = std::make_shared<models::cogvideox::CogVideoXTransformer>(config);
  const Tensor text = normal({2, config.max_text_seq_length, config.text_embed_dim}, 4);
  const auto rotary = models::cogvideox::rotary_positions(config, 8, 16, 16);
  Subject s{.name = "CogVideoX",
            .params = &model->params(),
            .values = drawn_weights(model->params(), 100),
            .latents = normal({2, 8, 3, 16, 16}, 3),
            .facts = {.name = "CogVideoX", .width = 64, .heads = 4, .along_all = 2, .outputs = 12},
            .extent = {.frames = 8, .rows = 64},
            .text_rows = config.max_text_seq_length};
  s.predict = [model, text, rotary](const Run& run, const Tensor& latents, double timestep) {
    models::cogvideox::CogVideoXTransformer::Inputs in;
    in.hidden_states = latents, in.encoder_hidden_states = text.to(latents.scalar_type());
    in.timestep = at::full({latents.size(0)}, timestep, at::kDouble);
    in.rotary = rotary;
    return model->forward(run, in);
  };
  return s;
}

std::vector<Arrangement> arrangements(const Subject& subject, int ranks) {
  std::vector<Arrangement> all;
  for (const parallel::LayoutKind& kind : parallel::layouts()) {
    if (!kind.obstacle(subject.facts).empty()) continue;
    for (const Axis home : {Axis::frames, Axis::rows}) {
      Arrangement a{.layout = kind.name, .home = home, .ranks = ranks};
      if (a.layout != "ulysses+ring") {
        const bool has_pieces = a.layout == "dsp" || a.layout == "ulysses";
        for (a.pieces = 1; a.pieces <= (has_pieces && ranks <= 3 ? 3 : 1); ++a.pieces) all.push_back(a);
        continue;
      }
      for (a.heads_ranks = 2; a.heads_ranks < ranks; ++a.heads_ranks) {
        if (ranks % a.heads_ranks == 0) all.push_back(a);
      }
    }
  }
  return all;
}

std::string name_of(const Subject& subject, const Arrangement& a) {
  return concat(subject.name, ", ", a.layout, a.pieces > 1 ? concat("/", a.pieces) : "", " over ", a.ranks,
                a.home == Axis::frames ? " by frames" : " by rows",
                a.layout == "ulysses+ring" ? concat(" in groups of ", a.heads_ranks) : "",
                a.branches > 1 ? ", branches apart" : "");
}

void on_ranks(const Subject& subject, const Arrangement& arrangement, const std::function<void(Place&)>& f) {
  const auto one = [&](comm::Communicator& world) {
    comm::Traffic traffic;
    comm::Counted counted(world, traffic);
    parallel::MadeLayout made = make_layout(arrangement, subject.facts, subject.extent, counted);
    traffic.clear();
    Place place{.rank = world.rank(),
                .layout = made.layout(),
                .across = made.across(),
                .sequence = made.sequence(),
                .traffic = traffic};
    f(place);
  };
  comm::run_ranks(arrangement.ranks * arrangement.branches, one, {.check = comm::Check::first});
}

parallel::CallShape shape_of(const Subject& subject, int64_t element_bytes) {
  return {.batch = subject.latents.size(0),
          .extent = subject.extent,
          .text_rows = subject.text_rows,
          .element_bytes = element_bytes};
}

}  // namespace kinora::seams
