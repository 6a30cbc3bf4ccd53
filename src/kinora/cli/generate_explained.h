// What somebody reads who gives `kinora generate` no prompt.
#pragma once

#include <string_view>

namespace kinora::cli {

inline constexpr std::string_view kGenerateExplained =
    R"(kinora generate makes a clip of what a sentence says.

  kinora generate "a red ball moves to the right on grass"
      out.mp4, with the model that comes with kinora
  kinora generate "a blue square moves up" --seed 7 --output square.gif
      the same clip each time; .mp4, .gif, .png or a folder/ of pictures
  kinora generate "a lighthouse in a storm" --model FOLDER --resolution 480p --frames 4s
      another model (a folder with a model_index.json), larger and longer

kinora plan, given the same model, prompt and sizes, says what a clip will need; kinora generate --help lists every option.

)";

}  // namespace kinora::cli
