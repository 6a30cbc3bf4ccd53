#include "kinora/cli/clip_writer.h"

#include <iostream>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/cli/signals.h"
#include "kinora/media/contact_sheet.h"
#include "kinora/media/output.h"
#include "kinora/media/png.h"

namespace kinora::cli {

namespace fs = std::filesystem;

fs::path file_of(const fs::path& output, int64_t index, size_t clips) {
  if (clips == 1) return output;
  if (!output.has_filename()) return fs::path(output.parent_path().string() + "-" + std::to_string(index)) / "";
  return output.parent_path() / concat(output.stem().string(), "-", index, output.extension().string());
}

fs::path beside(const fs::path& output, const std::string& ending) {
  return (output.has_filename() ? output : output.parent_path()).string() + ending;
}

void ClipWriter::add(int64_t index, media::Frames frames) {
  if (index != index_) {
    finish();
    index_ = index;
    path_ = file_of(output_, index, plan_.prompts.size());
    if (media::output_kind(path_) == media::OutputKind::kMp4) {
      media::VideoOptions options;
      options.fps = plan_.fps;
      writer_ = std::make_unique<media::VideoWriter>(path_, frames.height, frames.width, options,
                                                     pipeline_.metadata(plan_, index));
    }
  }
  if (writer_) {
    writer_->write(frames);
  } else if (frames_.frames == 0) {
    frames_ = std::move(frames);
    frames_.rgb.reserve(static_cast<size_t>(plan_.total_frames() * frames_.frame_bytes()));
  } else {
    frames_.rgb.insert(frames_.rgb.end(), frames.rgb.begin(), frames.rgb.end());
    frames_.frames += frames.frames;
  }
}

void ClipWriter::finish() {
  if (index_ < 0) return;
  throw_if_file_was_cut();
  if (writer_)
    writer_->commit();
  else
    media::save_clip(path_, frames_, pipeline_.metadata(plan_, index_));
  writer_.reset();
  frames_ = {};
  index_ = -1;
}

void StageLine::show(video::Stage stage, int64_t done, int64_t total) {
  if (!progress_ || stage != stage_) {
    progress_.reset();
    stage_ = stage;
    ProgressOptions options;
    options.label = video::stage_name(stage);
    options.total = total;
    options.begin = done;  // of a job that goes on
    static constexpr const char* kUnits[] = {"part", "text", "clip", "step", "frame"};
    options.unit = kUnits[static_cast<int>(stage)];
    options.is_terminal = is_terminal(2);
    options.memory_bytes = resident_bytes;
    progress_ = std::make_unique<Progress>(std::cerr, std::move(options));
  }
  progress_->update(done);
}

PreviewFile::~PreviewFile() {
  std::error_code ignored;
  if (is_written_ && !is_kept_) fs::remove(path_, ignored);
}

void PreviewFile::show(const std::vector<media::Frames>& clips) {
  try {
    media::SheetOptions options;
    options.frames_per_clip = clips.at(0).frames;
    media::write_png(path_, media::contact_sheet(clips, {}, options));
    is_written_ = true;
  } catch (const Error& error) {
    if (!has_failed_) log_warn(concat("no preview: ", error.what()));
    has_failed_ = true;
  }
}

}  // namespace kinora::cli
