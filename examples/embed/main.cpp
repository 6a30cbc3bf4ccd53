// Makes a clip with an installed Kinora, tells how far it is, and gives up when it takes too long.
//   embed "a red ball moves to the right on grass" --output ball.gif --cancel-after 30
#include <kinora/kinora.h>

#include <chrono>
#include <condition_variable>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

namespace {

/// Requests a stop after some seconds unless it is destroyed before.
class Timer {
 public:
  Timer(double seconds, std::stop_source stop)
      : thread_([=](const std::stop_token& is_over) mutable {
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any wake;
          wake.wait_for(lock, is_over, std::chrono::duration<double>(seconds), [] { return false; });
          if (!is_over.stop_requested()) stop.request_stop();
        }) {}

 private:
  std::jthread thread_;
};

int run(const std::string& prompt, std::map<std::string, std::string>& options) {
  const std::string output = options["--output"].empty() ? "out.gif" : options["--output"];
  kinora::media::check_output(output);  // now, and not after the work

  kinora::Request request{.prompts = {prompt}, .seed = 7};
  if (const std::string& steps = options["--steps"]; !steps.empty()) request.steps = std::stoll(steps);

  std::stop_source stop;
  std::optional<Timer> timer;
  if (const std::string& seconds = options["--cancel-after"]; !seconds.empty()) timer.emplace(std::stod(seconds), stop);

  kinora::Pipeline pipeline = kinora::Pipeline::load({.folder = options["--model"]});  // "": the built-in model
  const auto on_progress = [](kinora::Stage stage, int64_t done, int64_t total) {
    std::cerr << kinora::stage_name(stage) << " " << done << "/" << total << "\n";
  };
  const kinora::Clip clip = pipeline.generate(request, {.on_progress = on_progress, .cancel = stop.get_token()}).at(0);
  kinora::media::save_clip(output, clip.frames, clip.metadata);

  const kinora::media::Frames& f = clip.frames;
  std::cout << output << ": " << f.frames << " frames of " << f.width << "x" << f.height << ", made by Kinora "
            << kinora::version() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string prompt = "a red ball moves to the right on grass";
  std::map<std::string, std::string> options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--") && i + 1 < argc)
      options[word] = argv[++i];
    else
      prompt = word;
  }
  try {
    return run(prompt, options);
  } catch (const kinora::Error& error) {
    std::cerr << "embed: " << error.what() << "\n";
    if (!error.hint().empty()) std::cerr << "  " << error.hint() << "\n";
    return error.exit_code();
  } catch (const std::exception& error) {
    std::cerr << "embed: " << error.what() << "\n";
    return kinora::kBugExitCode;
  }
}
