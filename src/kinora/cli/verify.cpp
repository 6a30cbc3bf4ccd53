// kinora verify: parity with the public references.
#include <iostream>
#include <memory>

#include "kinora/cli/command.h"
#include "kinora/parity/verify.h"

namespace kinora::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  parity::VerifyOptions verify;
  int64_t threads = 0;
};

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("verify", "development: run parity cases against the public references' results");
  c->footer("Example: kinora verify tests/cases --require STDiT3");
  c->add_option("paths", o->paths, "case files, or folders of them")->required();
  c->add_option("--require", o->verify.require, "fail unless a case of this class ran; may be given several times");
  c->add_flag("--json", o->verify.json, "print one JSON object");
  add_threads(*c, o->threads);
  c->callback([o, &action] {
    action = [o](Context& context) {
      use_threads(o->threads);
      o->verify.cancel = context.cancel;
      const std::vector<std::filesystem::path> paths(o->paths.begin(), o->paths.end());
      return parity::run_verify(paths, o->verify, std::cout);
    };
  });
}

}  // namespace kinora::cli
