// Runs every fuzz target over its kept inputs, in an ordinary build: what fuzzing found once stays fixed.
// Usage: kinora_fuzz_replay CORPUS, a folder with one folder for each target. Exit 1 when a target has no input; a
// finding aborts, as under libFuzzer, after its file was named.
#include <filesystem>
#include <utility>

#include "fuzz.h"
#include "kinora/base/file.h"

// The build renames each target's LLVMFuzzerTestOneInput, so that one program holds them all.
extern "C" {
int fuzz_gif(const uint8_t* data, size_t size);
int fuzz_json(const uint8_t* data, size_t size);
int fuzz_png(const uint8_t* data, size_t size);
int fuzz_prompt(const uint8_t* data, size_t size);
int fuzz_safetensors(const uint8_t* data, size_t size);
int fuzz_sentencepiece(const uint8_t* data, size_t size);
int fuzz_tokenizer_json(const uint8_t* data, size_t size);
}

int main(int num_args, char** args) {
  constexpr std::pair<const char*, int (*)(const uint8_t*, size_t)> kTargets[] = {
      {"gif", fuzz_gif},
      {"json", fuzz_json},
      {"png", fuzz_png},
      {"prompt", fuzz_prompt},
      {"safetensors", fuzz_safetensors},
      {"sentencepiece", fuzz_sentencepiece},
      {"tokenizer_json", fuzz_tokenizer_json},
  };
  if (num_args != 2) {
    std::fprintf(stderr, "usage: kinora_fuzz_replay CORPUS\n");
    return 2;
  }
  for (const auto& [name, target] : kTargets) {
    const std::filesystem::path folder = std::filesystem::path(args[1]) / name;
    int inputs = 0;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
      std::fprintf(stderr, "%s\n", entry.path().c_str());
      const std::string bytes = kinora::read_file(entry.path(), uint64_t{1} << 20);
      target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      ++inputs;
    }
    if (inputs == 0) {
      std::fprintf(stderr, "%s has no inputs\n", folder.c_str());
      return 1;
    }
  }
  return 0;
}
