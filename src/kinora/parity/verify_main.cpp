// kinora_verify PATH... [--require CLASS] [--json]: stands in for `kinora verify` until the program has that command.
#include <iostream>
#include <string_view>

#include "kinora/base/error.h"
#include "kinora/parity/verify.h"

int main(int argc, char** argv) {
  kinora::parity::VerifyOptions options;
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--json") {
      options.json = true;
    } else if (word == "--require" && i + 1 < argc) {
      options.require.emplace_back(argv[++i]);
    } else {
      paths.emplace_back(word);
    }
  }
  try {
    return kinora::parity::run_verify(paths, options, std::cout);
  } catch (const kinora::Error& error) {
    std::cerr << error.what() << "\n";
    return error.exit_code();
  }
}
