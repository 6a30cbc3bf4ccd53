// What folders other than models say of themselves: trainings, parity cases, schedulers, tokenizers, and all the rest.
#include <algorithm>
#include <iostream>
#include <map>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/inspect.h"
#include "kinora/cli/known_classes.h"
#include "kinora/parity/registry.h"

namespace kinora::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kKnownPaths =
    "known are a model folder (model_index.json), a part of one (config.json), .safetensors files, the folder of a "
    "training and parity cases";

/// "3 .txt, 1 .jpg, 2 folders"
std::string contents(const fs::path& folder) {
  constexpr size_t kMost = 8;  // kinds: the message is one line
  std::map<std::string, int64_t> kinds;
  int64_t folders = 0;
  for (const auto& entry : entries_of(folder)) {
    const std::string extension = printable(entry.path().extension().string(), 20);
    if (entry.is_directory())
      ++folders;
    else
      ++kinds[extension.empty() || (kinds.size() == kMost && !kinds.contains(extension)) ? "other" : extension];
  }
  std::string out;
  const auto add = [&out](int64_t count, const std::string& what) {
    out += concat(out.empty() ? "" : ", ", count, " ", what);
  };
  for (const auto& [kind, count] : kinds) add(count, kind);
  if (folders > 0) add(folders, folders == 1 ? "folder" : "folders");
  return out.empty() ? "nothing" : out;
}

/// The first folder in it that inspect would know; empty when there is none.
fs::path known_folder_in(const fs::path& folder) {
  for (const auto& entry : entries_of(folder)) {
    std::error_code failed;
    if (!entry.is_directory(failed)) continue;
    if (is_file(entry.path() / "model_index.json") || is_file(entry.path() / "config.json")) return entry.path();
  }
  return {};
}

}  // namespace

std::string name_of(const fs::path& path) {
  fs::path name = path.filename().empty() ? path.parent_path().filename() : path.filename();
  if (name == "." || name == "..") name = fs::weakly_canonical(path).filename();
  return printable(name.string(), 200);
}

bool is_file(const fs::path& path) {
  std::error_code failed;
  return fs::is_regular_file(path, failed);
}

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

std::string class_text(const std::string& cls) {
  const std::string_view use = use_of(cls);
  return concat(printable(cls), ": ", use.empty() ? "not known to this build" : use);
}

bool is_run(const fs::path& path) {
  if (!is_file(path / "config.json")) return false;
  const Json config = read_json_file(path / "config.json");
  return config.is_object() && config.contains("stages") && config.contains("world");
}

void inspect_run(const InspectOptions& o, const fs::path& path) {
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

bool inspect_description(const InspectOptions& o, const fs::path& path) {
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

void refuse_unknown(const fs::path& folder) {
  const fs::path better = known_folder_in(folder);
  throw UsageError(concat("'", folder.string(), "' is no folder that is known; it holds ", contents(folder)),
                   better.empty() ? kKnownPaths : concat("give a folder in it, such as '", better.string(), "'"));
}

}  // namespace kinora::cli
