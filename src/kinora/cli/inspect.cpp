// kinora inspect: what a folder or a file holds, from configs and headers alone: models of diffusers and transformers, and
// weights here; the rest in inspect_folders.cpp.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/inspect.h"
#include "kinora/cli/known_classes.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

// Weights

struct Part {
  std::string name;
  std::string cls;  ///< empty: nothing says it
  Json config;
  Checkpoint checkpoint;

  Part(std::string part, const fs::path& path, std::string given_class = {})
      : name(std::move(part)), cls(std::move(given_class)), checkpoint(path) {
    if (fs::is_directory(path) && is_file(path / "config.json")) config = read_json_file(path / "config.json");
    if (cls.empty()) cls = class_of(config);
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
  uint64_t file_bytes() const {
    uint64_t bytes = 0;
    for (const auto& file : checkpoint.files()) bytes += fs::file_size(file->path());
    return bytes;
  }
};

Json to_json(const Part& part, bool with_tensors) {
  Json json{{"part", part.name},
            {"params", part.num_params()},
            {"bytes", part.checkpoint.num_bytes()},
            {"dtypes", part.dtypes()},
            {"tensors", part.checkpoint.tensors().size()},
            {"files", part.checkpoint.files().size()},
            {"file_bytes", part.file_bytes()}};
  if (!part.cls.empty()) json["class"] = part.cls, json["known"] = !use_of(part.cls).empty();
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
  const size_t files = part.checkpoint.files().size();
  std::cout << "  " << files << (files == 1 ? " file of " : " files of ") << human_bytes(part.file_bytes());
  if (!part.cls.empty()) std::cout << "; " << class_text(part.cls);
  std::cout << "\n";
  if (!part.config.is_null()) print_config(part.config);
  if (!with_tensors) return;
  size_t widest = 0;
  for (const auto& [name, where] : part.checkpoint.tensors()) widest = std::max(widest, name.size());
  for (const auto& [name, where] : part.checkpoint.tensors()) {
    std::cout << "  " << std::left << std::setw(static_cast<int>(widest)) << name << "  " << std::setw(5)
              << dtype_name(where.entry->dtype) << " " << shape_text(where.entry->shape) << "\n";
  }
}

void show(const InspectOptions& o, const std::vector<Part>& parts, const Json& pipeline = {}) {
  uint64_t params = 0, bytes = 0;
  for (const Part& part : parts) {
    Json json = o.json ? to_json(part, !o.summary) : Json();
    if (o.json && !pipeline.is_null()) json["pipeline"] = pipeline;
    if (o.json)
      print_json(json);
    else
      print(part, !o.summary);
    params += part.num_params();
    bytes += part.checkpoint.num_bytes();
  }
  if (!o.json && parts.size() > 1) std::cout << "together: " << params << " parameters, " << human_bytes(bytes) << "\n";
}

// A model of diffusers: model_index.json names a library and a class for each part

bool has_weights(const fs::path& folder) {
  for (const auto& entry : entries_of(folder)) {
    if (entry.path().extension() == ".safetensors" || is_pickle_name(entry.path())) return true;
  }
  return false;
}

void inspect_model(const InspectOptions& o, const fs::path& path) {
  const fs::path file = path / "model_index.json";
  const Json json = read_json_file(file);
  const std::string cls = JsonObject(json, file.string()).string_or("_class_name", "");
  Json pipeline{{"class", cls}, {"known", !use_of(cls).empty()}, {"components", Json::object()}};
  std::vector<Part> parts;
  std::string without_weights;
  for (const auto& [name, value] : json.items()) {
    const bool is_component = value.is_array() && value.size() == 2 && value[1].is_string();
    const bool is_folder = fs::is_directory(path / name);
    if (name.starts_with('_') || (!is_component && !is_folder)) continue;
    const std::string component = is_component ? value[1].get<std::string>() : std::string();
    pipeline["components"][name] = {{"class", component}, {"known", !use_of(component).empty()}, {"found", is_folder}};
    if (is_folder && has_weights(path / name))
      parts.emplace_back(printable(name), path / name, component);
    else
      without_weights += concat(printable(name), is_folder ? ": " : " (its folder is missing): ",
                                component.empty() ? "no class is named" : class_text(component), "\n");
  }
  if (parts.empty()) throw UsageError(concat("'", path.string(), "' has no part with weights"));
  if (!o.json) std::cout << name_of(path) << ": " << (cls.empty() ? "no class is named" : class_text(cls)) << "\n";
  if (!o.json) std::cout << without_weights;
  show(o, parts, pipeline);
}

// Parity cases

/// False for anything else than a case or a folder of cases.
bool inspect_cases(const InspectOptions& o, const fs::path& path) {
  if (is_file(path)) {
    if (path.extension() != ".safetensors") return false;
    const Json facts = case_of(SafetensorsFile(path));
    if (facts.is_null()) return false;
    const Part part(name_of(path), path);
    if (o.json) {
      Json json = to_json(part, !o.summary);
      json["case"] = facts;
      print_json(json);
    } else {
      print_case(facts);
      print(part, !o.summary);
    }
    return true;
  }
  if (!fs::is_directory(path)) return false;
  int64_t count = 0;
  for (const auto& entry : entries_of(path)) {
    if (entry.path().extension() != ".safetensors" || !is_file(entry.path())) continue;
    const Json facts = case_of(SafetensorsFile(entry.path()));
    if (facts.is_null() && count == 0) return false;  // weights, of which there may be much
    if (facts.is_null()) continue;
    ++count;
    if (o.json)
      print_json(facts);
    else
      print_case(facts);
  }
  return count > 0;
}

bool looks_like_weights(const fs::path& folder) {
  for (const auto& entry : entries_of(folder)) {
    if (entry.path().string().ends_with(".index.json")) return true;
  }
  return has_weights(folder);
}

int inspect(const InspectOptions& o) {
  const fs::path path = o.path;
  if (path.extension() == ".json" && !path.string().ends_with(".index.json")) {
    throw UsageError(concat("'", path.string(), "' says how a model is built and holds no weights"),
                     "give the folder around it");
  }
  const bool is_folder = fs::is_directory(path);
  if (is_folder && is_file(path / "model_index.json")) {
    inspect_model(o, path);
  } else if (is_folder && is_run(path)) {
    inspect_run(o, path);
  } else if (inspect_cases(o, path)) {
    return 0;
  } else if (!is_folder || looks_like_weights(path)) {
    show(o, {Part(name_of(path), path)});
  } else if (!inspect_description(o, path)) {
    refuse_unknown(path);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto o = std::make_shared<InspectOptions>();
  CLI::App* c =
      app.add_subcommand("inspect", "show what a folder holds: classes, configs, tensors, sizes, training runs");
  c->footer("Example: kinora inspect assets/shapes --summary");
  c->add_option("path", o->path, "a model, a part of one, a .safetensors file, a training's folder, a parity case")
      ->required();
  c->add_flag("--summary", o->summary, "without the table of tensors");
  c->add_flag("--json", o->json, "print one JSON line for each part");
  c->callback([o, &action] { action = [o](Context&) { return inspect(*o); }; });
}

}  // namespace kinora::cli
