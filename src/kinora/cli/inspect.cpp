// kinora inspect: what a folder or a file holds, from configs and headers alone: models of diffusers and transformers,
// weights, training runs, parity cases.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/known_classes.h"
#include "kinora/parity/registry.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  bool json = false, summary = false;
};

constexpr const char* kKnownPaths =
    "known are a model folder (model_index.json), a part of one (config.json), .safetensors files, the folder of a "
    "training and parity cases";

std::string name_of(const fs::path& path) {
  fs::path name = path.filename().empty() ? path.parent_path().filename() : path.filename();
  if (name == "." || name == "..") name = fs::weakly_canonical(path).filename();
  return printable(name.string(), 200);
}

bool is_file(const fs::path& path) {
  std::error_code failed;
  return fs::is_regular_file(path, failed);
}

/// Files and folders in it but hidden ones, by name. Throws filesystem_error where the system refuses.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().front() != '.') entries.push_back(entry);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

void print_config(const Json& config) {
  std::cout << config.dump(2, ' ', true, Json::error_handler_t::replace) << "\n";
}

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

/// "STDiT3: kinora generate takes it", or that this build does not know it.
std::string class_text(const std::string& cls) {
  const std::string_view use = use_of(cls);
  return concat(printable(cls), ": ", use.empty() ? "not known to this build" : use);
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

void show(const Options& o, const std::vector<Part>& parts, const Json& pipeline = {}) {
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

void inspect_model(const Options& o, const fs::path& path) {
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

// A training's folder: its config, a folder a stage, the model when it is done

bool is_run(const fs::path& path) {
  if (!is_file(path / "config.json")) return false;
  const Json config = read_json_file(path / "config.json");
  return config.is_object() && config.contains("stages") && config.contains("world");
}

void inspect_run(const Options& o, const fs::path& path) {
  const Json config = read_json_file(path / "config.json");
  Json stages = Json::array();
  for (const auto& entry : entries_of(path)) {
    if (!entry.is_directory() || !config.at("stages").is_object()) continue;
    const std::string name = entry.path().filename().string();
    int64_t checkpoints = 0, newest = -1;
    for (const auto& file : entries_of(entry.path())) {
      const std::string stem = file.path().stem().string();
      if (file.path().extension() != ".safetensors" || !stem.starts_with("step-")) continue;
      ++checkpoints;
      newest = std::max<int64_t>(newest, std::strtoll(stem.c_str() + 5, nullptr, 10));
    }
    if (checkpoints == 0) continue;
    Json stage{{"stage", name}, {"checkpoints", checkpoints}, {"newest_step", newest}};
    const Json& settings = config["stages"];
    if (settings.contains(name) && settings[name].is_object() && settings[name].contains("steps"))
      stage["steps"] = settings[name]["steps"];
    stages.push_back(stage);
  }
  const bool has_model = is_file(path / "model" / "model_index.json");
  if (o.json) {
    Json json{{"run", name_of(path)}, {"stages", stages}, {"model", has_model ? Json("model") : Json()}};
    if (!o.summary) json["config"] = config;
    return print_json(json);
  }
  std::cout << name_of(path) << ": a training of kinora train\n";
  for (const Json& stage : stages) {
    std::cout << "  " << printable(stage["stage"].get<std::string>()) << ": step " << stage["newest_step"];
    if (stage.contains("steps")) std::cout << " of " << stage["steps"];
    std::cout << ", " << stage["checkpoints"] << (stage["checkpoints"] == 1 ? " checkpoint\n" : " checkpoints\n");
  }
  if (stages.empty()) std::cout << "  no checkpoint yet\n";
  std::cout << (has_model ? "  the model is in its folder model\n" : "  no model yet\n");
  if (!o.summary) print_config(config);
}

// Parity cases

/// Class, method, source and names of a case, from its metadata; null for another file.
Json case_of(const SafetensorsFile& file) {
  const auto entry = file.metadata().find("case");
  if (entry == file.metadata().end()) return {};
  Json note;
  try {
    note = parse_json(entry->second, {.max_bytes = size_t{16} << 20}, file.path().string());
  } catch (const DataError&) {
    return {};  // the key is somebody else's
  }
  const auto text = [](const Json& json, const char* key, const char* otherwise) -> std::string {
    return json.is_object() && json.contains(key) && json[key].is_string() ? json[key] : Json(otherwise);
  };
  const std::string cls = text(note, "cls", "");
  if (cls.empty()) return {};
  const Json call = note.value("call", Json());
  const std::string method = call.is_string() ? call.get<std::string>() : text(call, "method", "forward");
  Json facts{{"case", name_of(file.path())},
             {"class", cls},
             {"method", method},
             {"known", parity::all_runners().find(cls, method) != nullptr},
             {"source", text(note, "source", "")}};
  for (const char* key : {"inputs", "outputs"}) {
    facts[key] = Json::array();
    if (!note.contains(key) || !note[key].is_object()) continue;
    for (const auto& [name, value] : note[key].items()) facts[key].push_back(name);
  }
  return facts;
}

void print_case(const Json& facts) {
  const auto text = [&facts](const char* key) { return printable(facts[key].get<std::string>(), 200); };
  std::cout << text("case") << ": parity case of " << text("class") << ", " << text("method") << ", from "
            << text("source") << "; " << (facts["known"] ? "kinora verify runs it" : "not known to this build") << "\n";
}

/// False for anything else than a case or a folder of cases.
bool inspect_cases(const Options& o, const fs::path& path) {
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

// A scheduler's or a tokenizer's folder: nothing but a description

bool inspect_description(const Options& o, const fs::path& path) {
  for (const char* file : {"scheduler_config.json", "tokenizer_config.json", "tokenizer.json", "spiece.model"}) {
    if (!is_file(path / file)) continue;
    const std::string_view kind = std::string_view(file).starts_with("scheduler") ? "scheduler" : "tokenizer";
    const bool is_config = std::string_view(file).ends_with("_config.json");
    const Json config = is_config ? read_json_file(path / file) : Json();
    const std::string cls = config.is_object() ? class_of(config) : std::string();
    if (o.json) {
      print_json({{"part", name_of(path)},
                  {"kind", kind},
                  {"class", cls},
                  {"known", !use_of(cls).empty()},
                  {"config", config}});
    } else {
      std::cout << name_of(path) << ": a " << kind << ", " << (cls.empty() ? std::string(file) : class_text(cls))
                << "\n";
      if (is_config && !o.summary) print_config(config);
    }
    return true;
  }
  return false;
}

/// "3 .txt, 1 .jpg, 2 folders"
std::string contents(const fs::path& folder) {
  std::map<std::string, int64_t> count;
  for (const auto& entry : entries_of(folder)) {
    const std::string extension = entry.path().extension().string();
    ++count[entry.is_directory() ? "folders"
            : extension.empty()  ? "files without an ending"
                                 : printable(extension, 20)];
  }
  std::string out;
  constexpr size_t kMost = 8;
  for (auto at = count.begin(); at != count.end() && static_cast<size_t>(std::distance(count.begin(), at)) < kMost;
       ++at)
    out += concat(out.empty() ? "" : ", ", at->second, " ", at->first);
  return out.empty() ? "nothing" : out + (count.size() > kMost ? ", ..." : "");
}

bool looks_like_weights(const fs::path& folder) {
  for (const auto& entry : entries_of(folder)) {
    if (entry.path().string().ends_with(".index.json")) return true;
  }
  return has_weights(folder);
}

int inspect(const Options& o) {
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
    throw UsageError(concat("'", path.string(), "' is no folder that is known; it holds ", contents(path)),
                     kKnownPaths);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
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
