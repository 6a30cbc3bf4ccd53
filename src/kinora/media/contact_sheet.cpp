#include "kinora/media/contact_sheet.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/media/limits.h"
#include "kinora/media/text_overlay.h"

namespace kinora::media {
namespace {

constexpr int64_t kFrameGap = 2, kLineGap = 3;

void paste(Frames& sheet, int64_t top, int64_t left, const Frames& clip, int64_t frame, int64_t scale) {
  for (int64_t y = 0; y < clip.height * scale; ++y) {
    uint8_t* out = sheet.frame(0) + 3 * ((top + y) * sheet.width + left);
    const uint8_t* in = clip.frame(frame) + 3 * (y / scale) * clip.width;
    for (int64_t x = 0; x < clip.width * scale; ++x) std::copy_n(in + 3 * (x / scale), 3, out + 3 * x);
  }
}

}  // namespace

Frames contact_sheet(const std::vector<Frames>& clips, const std::vector<std::string>& captions,
                     const SheetOptions& options) {
  if (clips.empty()) throw UsageError("contact sheet: there is no clip");
  if (!captions.empty() && captions.size() != clips.size()) {
    throw UsageError(concat("contact sheet: ", captions.size(), " captions for ", clips.size(), " clips"));
  }
  if (options.frames_per_clip < 1 || options.clips_per_row < 1 || options.scale < 1 || options.text_scale < 1 ||
      options.gap < 0 ||
      std::max({options.frames_per_clip, options.clips_per_row, options.scale, options.text_scale, options.gap}) >
          kMaxSide) {
    throw UsageError("contact sheet: an option is out of range");
  }
  const int64_t height = clips.front().height, width = clips.front().width;
  int64_t shown = 1;
  for (const Frames& clip : clips) {
    check(clip);
    if (clip.height != height || clip.width != width) throw UsageError("contact sheet: the clips differ in size");
    shown = std::max(shown, std::min(options.frames_per_clip, clip.frames));
  }
  const int64_t strip_width = shown * width * options.scale + (shown - 1) * kFrameGap;
  std::vector<std::vector<std::string>> texts;
  size_t most_lines = 0;
  for (const std::string& caption : captions) {
    texts.push_back(wrap_text(caption, strip_width, options.text_scale));
    most_lines = std::max(most_lines, texts.back().size());
  }
  const int64_t line_height = text_height_px(options.text_scale) + kLineGap;
  const int64_t cell_height = height * options.scale + static_cast<int64_t>(most_lines) * line_height + options.gap;
  const int64_t cell_width = strip_width + options.gap;
  const auto num_clips = static_cast<int64_t>(clips.size());
  const int64_t columns = std::min(options.clips_per_row, num_clips), rows = (num_clips + columns - 1) / columns;
  check_clip_size<UsageError>("contact sheet", 1, rows * cell_height + options.gap, columns * cell_width + options.gap);
  Frames sheet = make_frames(1, rows * cell_height + options.gap, columns * cell_width + options.gap);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), uint8_t{255});
  for (int64_t i = 0; i < num_clips; ++i) {
    const Frames& clip = clips[static_cast<size_t>(i)];
    const int64_t top = options.gap + i / columns * cell_height, left = options.gap + i % columns * cell_width;
    const int64_t here = std::min(shown, clip.frames);
    for (int64_t k = 0; k < here; ++k) {
      const int64_t frame = here > 1 ? k * (clip.frames - 1) / (here - 1) : 0;
      paste(sheet, top, left + k * (width * options.scale + kFrameGap), clip, frame, options.scale);
    }
    if (texts.empty()) continue;
    int64_t text_top = top + height * options.scale + kLineGap;
    for (const std::string& text_line : texts[static_cast<size_t>(i)]) {
      draw_text(sheet, 0, text_top, left, text_line, {.scale = options.text_scale});
      text_top += line_height;
    }
  }
  return sheet;
}

}  // namespace kinora::media
