#include "kinora/train/stage.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <future>
#include <numeric>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/base/progress.h"
#include "kinora/media/svg.h"
#include "kinora/tensor/random.h"
#include "kinora/train/checkpoint.h"
#include "kinora/train/guard.h"
#include "kinora/train/run_folder.h"

namespace kinora::train {
namespace {

constexpr size_t kLossWindow = 50;
constexpr const char* kSkippedBatches = "skipped_batches";
constexpr int64_t kMostSteps = 10'000'000, kMostBatch = 1 << 16;  // far above any use, far below what overflows
constexpr uint64_t kMostTableBytes = uint64_t{1} << 30;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string prefix_of(size_t model) { return concat("model", model, "."); }

/// All that decides how a stage goes on.
struct State {
  const std::vector<Trainable*>& models;
  LossGuard guard;
  int64_t step = 0;
  int64_t skipped_batches = 0;  // left out when the stage went back to a checkpoint: step n learns from batch n + this

  void save(const StageHooks& hooks) const {
    NamedTensors all = guard.state();
    all.emplace_back(kSkippedBatches, at::full({1}, skipped_batches, at::kLong));
    for (size_t i = 0; i < models.size(); ++i) {
      for (auto& entry : models[i]->state(prefix_of(i))) all.push_back(std::move(entry));
    }
    save_checkpoint(hooks.folder, step, all);
    if (hooks.on_checkpoint) hooks.on_checkpoint(step);
  }

  /// The newest checkpoint of the folder, or false.
  bool load(const StageHooks& hooks) {
    const auto saved = newest_checkpoint(hooks.folder);
    if (!saved) return false;
    const Checkpoint checkpoint(saved->file);
    for (size_t i = 0; i < models.size(); ++i) models[i]->load_state(checkpoint, prefix_of(i));
    guard.load_state(checkpoint);
    if (const auto* skipped = checkpoint.find(kSkippedBatches))
      skipped_batches = load_tensor(*skipped).sum().item<int64_t>();
    drop_other_checkpoints(hooks.folder, saved->step);
    step = saved->step;
    return true;
  }
};

/// Each part has an even share of the threads while this lives.
class ThreadShare {
 public:
  explicit ThreadShare(int64_t parts) : all_(at::get_num_threads()) {
    at::set_num_threads(static_cast<int>(std::max<int64_t>(1, all_ / parts)));
  }
  ~ThreadShare() { at::set_num_threads(all_); }
  ThreadShare(const ThreadShare&) = delete;
  ThreadShare& operator=(const ThreadShare&) = delete;

 private:
  int all_;
};

/// Leaves every part's gradients at its weights and returns the mean loss. The sums' order is that of the parts, whoever ends first.
double loss_and_gradients(const StageOptions& options, const LossFunction& loss, int64_t step, int64_t batch) {
  const auto one = [&](int64_t index) {
    const auto seed = static_cast<uint64_t>(options.seed) * 1'000'003 + static_cast<uint64_t>(batch);
    at::Generator generator = cpu_generator(seed * static_cast<uint64_t>(options.parts) + static_cast<uint64_t>(index));
    const Tensor value = loss({step, index, options.batch / options.parts, generator});
    value.backward();
    return value.item<double>();
  };
  const bool together = options.parts > 1 && at::get_num_threads() >= options.parts;
  std::optional<ThreadShare> share;
  if (together) share.emplace(options.parts);
  std::vector<std::future<double>> parts;
  for (int64_t index = 0; index < options.parts; ++index) {
    parts.push_back(std::async(together ? std::launch::async : std::launch::deferred, [&one, index, together] {
      if (together) at::init_num_threads();  // a thread that ATen has not seen takes all cores
      return one(index);
    }));
  }
  double total = 0;
  for (auto& part : parts) total += part.get();
  return total / static_cast<double>(options.parts);
}

/// A table's rows up to `step`: later ones are of a run that was killed before its next checkpoint, or that went back.
std::string rows_up_to(int64_t step, const std::string& rows) {
  std::string table = "step,loss,grad_norm,lr_factor\n", row;
  std::istringstream in(rows);
  while (std::getline(in, row)) {
    const int64_t at = std::strtoll(row.c_str(), nullptr, 10);  // 0: the head
    if (at > 0 && at <= step) table += row + "\n";
  }
  return table;
}

double mean(const std::deque<double>& values) {
  return values.empty() ? 0.0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The table's losses and their mean over the last steps, as a picture that can be looked at while the stage runs.
media::LinePlot loss_plot(const std::string& name, const std::string& table) {
  media::Series each{.label = "loss", .x = {}, .y = {}};
  media::Series smooth{.label = concat("mean of ", kLossWindow), .x = {}, .y = {}};
  std::istringstream rows(table);
  std::string row;
  std::deque<double> recent;
  while (std::getline(rows, row)) {
    const char* at = row.c_str();
    char* end = nullptr;
    const double step = std::strtod(at, &end);
    if (end == at || *end != ',') continue;  // the head
    const double loss = std::strtod(end + 1, nullptr);
    each.x.push_back(step), each.y.push_back(loss);
    if (std::isfinite(loss)) recent.push_back(loss);
    if (recent.size() > kLossWindow) recent.pop_front();
    smooth.x.push_back(step), smooth.y.push_back(mean(recent));
  }
  return {.title = name,
          .x_label = "step",
          .y_label = "loss",
          .series = {std::move(each), std::move(smooth)},
          .log_y = true};
}

}  // namespace

double number_within(const JsonObject& json, std::string_view key, double fallback, double low, double high) {
  const double value = json.number_or(key, fallback);
  if (!(value >= low && value <= high))
    throw DataError(concat(json.what(), ": \"", key, "\" must be ", low, " to ", high, ", found ", value));
  return value;
}

StageOptions StageOptions::from_json(const JsonObject& json, std::string name, int64_t default_seed) {
  constexpr double kLeast = 1e-12, kMostDecay = 0.999999, kMostRate = 10;  // of what must be above 0, or below 1
  StageOptions o{.name = std::move(name)};
  o.steps = json.require_int("steps", 1, kMostSteps);
  o.batch = json.int_or("batch", o.batch, 1, kMostBatch);
  o.parts = json.int_or("parts", o.parts, 1, kMostBatch);
  if (o.batch % o.parts != 0)
    throw DataError(concat("a batch of ", o.batch, " cannot be split into ", o.parts, " equal parts"));
  o.warmup_steps = json.int_or("warmup_steps", o.warmup_steps, 0, kMostSteps);
  o.decay_from = number_within(json, "decay_from", o.decay_from, 0, 1);
  o.final_factor = number_within(json, "final_factor", o.final_factor, 0, 1);
  o.clip_norm = number_within(json, "clip_norm", o.clip_norm, kLeast, 1e12);
  o.seed = json.int_or("seed", default_seed);
  o.checkpoint_seconds = number_within(json, "checkpoint_seconds", o.checkpoint_seconds, 0, 1e9);
  o.optimizer.lr = number_within(json, "lr", o.optimizer.lr, kLeast, kMostRate);
  o.optimizer.muon_lr = number_within(json, "muon_lr", o.optimizer.muon_lr, 0, kMostRate);
  o.optimizer.beta2 = number_within(json, "beta2", o.optimizer.beta2, 0, kMostDecay);
  o.optimizer.weight_decay = number_within(json, "weight_decay", o.optimizer.weight_decay, 0, kMostRate);
  o.optimizer.ema_decay = number_within(json, "ema_decay", o.optimizer.ema_decay, 0, kMostDecay);
  return o;
}

double lr_factor(const StageOptions& options, int64_t step) {
  const double at = static_cast<double>(step);
  if (step < options.warmup_steps) return (at + 1) / static_cast<double>(options.warmup_steps + 1);
  const double total = static_cast<double>(options.steps), begin = options.decay_from * total;
  if (at <= begin || total <= begin) return 1.0;
  return 1.0 + (options.final_factor - 1.0) * (at - begin) / (total - begin);
}

StageResult run_stage(const StageOptions& options, const std::vector<Trainable*>& models, const LossFunction& loss,
                      const StageHooks& hooks) {
  for (auto* model : models) model->set_parts(options.parts);
  State state{.models = models, .guard = {}};
  if (state.load(hooks)) log_info(concat(options.name, ": resumes at step ", state.step, " of ", options.steps));
  make_folder(hooks.folder);
  const std::filesystem::path table_file = hooks.folder / "loss.csv";
  std::string table = rows_up_to(
      state.step, std::filesystem::exists(table_file) ? read_file(table_file, kMostTableBytes) : std::string());
  std::optional<Progress> progress;
  if (hooks.progress) {
    progress.emplace(*hooks.progress, ProgressOptions{.label = options.name,
                                                      .total = options.steps,
                                                      .begin = state.step,
                                                      .is_terminal = is_terminal(2),
                                                      .memory_bytes = resident_bytes});
  }

  StageResult result;
  std::deque<double> recent;
  std::optional<int64_t> went_back_to;
  double saved_at = now_s();
  while (state.step < options.steps) {
    const int64_t step = state.step;
    const double loss_value = loss_and_gradients(options, loss, step, step + state.skipped_batches);
    double squared = 0;
    for (auto* model : models) squared += model->squared_grad_norm();
    const double norm = std::sqrt(squared), factor = lr_factor(options, step);
    const auto verdict = state.guard.see(step, loss_value, norm);
    if (verdict == LossGuard::Verdict::update) {
      const double scale = norm > options.clip_norm ? options.clip_norm / norm : 1.0;
      for (auto* model : models) model->step(factor, scale);
      recent.push_back(loss_value);
      if (recent.size() > kLossWindow) recent.pop_front();
    } else {
      for (auto* model : models) model->clear_gradients();
      ++result.skipped;
      log_warn(concat(options.name, ": step ", step, " is skipped: loss ", loss_value,
                      verdict == LossGuard::Verdict::outlier ? " is far above the last ones" : "", ", gradient norm ",
                      norm));
    }
    if (state.guard.in_doubt()) {
      const int64_t left_out = state.skipped_batches;
      if (!state.load(hooks) || went_back_to == state.step) {
        throw DataError(concat(options.name, ": too many steps up to ", step, " were not finite"),
                        "lower the learning rate and resume; the last checkpoint is kept");
      }
      went_back_to = state.step;
      state.skipped_batches = left_out + step + 1 - state.step;
      log_warn(concat(options.name, ": too many steps were not finite: goes back to step ", state.step,
                      " and leaves out the batches since"));
      table = rows_up_to(state.step, table);
      continue;
    }
    ++state.step;
    table += concat(state.step, ',', loss_value, ',', norm, ',', factor, '\n');
    if (progress) {
      progress->set_note(concat("loss ", mean(recent)));
      progress->update(state.step);
    }
    const bool stop = hooks.cancel.stop_requested();
    const bool due = now_s() - saved_at > options.checkpoint_seconds && !state.guard.last_was_bad();
    if (stop || state.step == options.steps || due) {
      write_file(table_file, table);
      media::save_line_plot(hooks.folder / "loss.svg", loss_plot(options.name, table));
      state.save(hooks);
      saved_at = now_s();
    }
    if (stop) throw CancelledError(concat(options.name, ": stopped at step ", state.step, "; run it again to go on"));
  }
  result.loss = mean(recent);
  return result;
}

}  // namespace kinora::train
