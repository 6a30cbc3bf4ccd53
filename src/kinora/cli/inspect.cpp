// kinora inspect: what a model folder or a weights file holds, from its headers alone.
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/cli/command.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  bool json = false, summary = false;
};

struct Part {
  std::string name;
  Json config;
  Checkpoint checkpoint;

  Part(std::string part, const fs::path& path) : name(std::move(part)), checkpoint(path) {
    const fs::path folder = fs::is_directory(path) ? path : path.parent_path();
    if (fs::is_directory(path) && fs::exists(folder / "config.json")) config = read_json_file(folder / "config.json");
  }

  uint64_t num_params() const {
    uint64_t count = 0;
    for (const auto& [tensor, where] : checkpoint.tensors()) count += where.entry->num_elements();
    return count;
  }
  std::map<std::string, uint64_t> dtypes() const {
    std::map<std::string, uint64_t> count;
    for (const auto& [tensor, where] : checkpoint.tensors()) ++count[std::string(dtype_name(where.entry->dtype))];
    return count;
  }
};

Json to_json(const Part& part, bool with_tensors) {
  Json json{{"part", part.name},
            {"params", part.num_params()},
            {"bytes", part.checkpoint.num_bytes()},
            {"dtypes", part.dtypes()},
            {"tensors", part.checkpoint.tensors().size()}};
  if (!part.config.is_null()) json["config"] = part.config;
  if (!with_tensors) return json;
  json["table"] = Json::array();
  for (const auto& [name, where] : part.checkpoint.tensors()) {
    json["table"].push_back({{"name", name},
                             {"dtype", dtype_name(where.entry->dtype)},
                             {"shape", where.entry->shape},
                             {"bytes", where.entry->num_bytes()}});
  }
  return json;
}

void print(const Part& part, bool with_tensors) {
  std::cout << part.name << ": " << part.num_params() << " parameters in " << part.checkpoint.tensors().size()
            << " tensors, " << human_bytes(part.checkpoint.num_bytes());
  for (const auto& [dtype, count] : part.dtypes()) std::cout << ", " << count << " " << dtype;
  std::cout << "\n";
  if (!part.config.is_null()) std::cout << part.config.dump(2, ' ', true, Json::error_handler_t::replace) << "\n";
  if (!with_tensors) return;
  size_t widest = 0;
  for (const auto& [name, where] : part.checkpoint.tensors()) widest = std::max(widest, name.size());
  for (const auto& [name, where] : part.checkpoint.tensors()) {
    std::cout << "  " << std::left << std::setw(static_cast<int>(widest)) << name << "  " << std::setw(5)
              << dtype_name(where.entry->dtype) << " " << shape_text(where.entry->shape) << "\n";
  }
}

/// The weights of a file, of a folder, or of every part of a model folder.
std::vector<Part> parts_of(const fs::path& path) {
  std::vector<Part> parts;
  if (path.extension() == ".json" && !path.string().ends_with(".index.json")) {
    throw UsageError(concat("'", path.string(), "' says how a model is built and holds no weights"),
                     "give the folder around it");
  }
  if (!fs::exists(path / "model_index.json")) {
    parts.emplace_back(path.filename().empty() ? path.parent_path().filename().string() : path.filename().string(),
                       path);
    return parts;
  }
  const Json json = read_json_file(path / "model_index.json");
  const JsonObject index(json, (path / "model_index.json").string());
  for (const auto& [name, value] : json.items()) {
    if (name.starts_with('_') || !fs::is_directory(path / name)) continue;
    bool has_weights = false;
    for (const auto& entry : fs::directory_iterator(path / name)) {
      has_weights = has_weights || entry.path().extension() == ".safetensors" || is_pickle_name(entry.path());
    }
    if (has_weights) parts.emplace_back(name, path / name);
  }
  if (parts.empty()) throw UsageError(concat("'", path.string(), "' has no part with weights"));
  return parts;
}

int inspect(const Options& o) {
  uint64_t params = 0, bytes = 0;
  const auto parts = parts_of(o.path);
  for (const Part& part : parts) {
    if (o.json)
      print_json(to_json(part, !o.summary));
    else
      print(part, !o.summary);
    params += part.num_params();
    bytes += part.checkpoint.num_bytes();
  }
  if (!o.json && parts.size() > 1) std::cout << "together: " << params << " parameters, " << human_bytes(bytes) << "\n";
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("inspect", "show config, tensors, dtypes and sizes of a model");
  c->footer("Example: kinora inspect assets/shapes --summary");
  c->add_option("model", o->path, "a model folder, a part's folder, or a .safetensors file")->required();
  c->add_flag("--summary", o->summary, "without the table of tensors");
  c->add_flag("--json", o->json, "print one JSON line for each part");
  c->callback([o, &action] { action = [o](Context&) { return inspect(*o); }; });
}

}  // namespace kinora::cli
