// What `generate` shows and writes while a run goes on: the progress line, the preview, the clips' files.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "kinora/base/progress.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/video/pipeline.h"

namespace kinora::cli {

/// "out.mp4" for one clip; "out-0.mp4", "out-1.mp4", ... for several.
std::filesystem::path file_of(const std::filesystem::path& output, int64_t index, size_t clips);
/// "out.mp4" -> "out.mp4.job"; "folder/" -> "folder.job".
std::filesystem::path beside(const std::filesystem::path& output, const std::string& ending);

/// Writes clips as their frames come: an MP4 while the next frames are decoded, other kinds when the clip is whole.
class ClipWriter {
 public:
  ClipWriter(const video::Pipeline& pipeline, const video::Plan& plan, std::filesystem::path output)
      : pipeline_(pipeline), plan_(plan), output_(std::move(output)) {}
  void add(int64_t index, media::Frames frames);
  /// Behind the last frame of the last clip.
  void finish();

 private:
  const video::Pipeline& pipeline_;
  const video::Plan& plan_;
  std::filesystem::path output_, path_;
  int64_t index_ = -1;
  std::unique_ptr<media::VideoWriter> writer_;
  media::Frames frames_;
};

/// The one progress line: each stage is shown as it goes.
class StageLine {
 public:
  void show(video::Stage stage, int64_t done, int64_t total);
  void end() { progress_.reset(); }

 private:
  std::unique_ptr<Progress> progress_;
  video::Stage stage_ = video::Stage::load;
};

/// A picture of the running job, replaced as it goes and removed at the end unless it is to be kept. What cannot be
/// written is one warning.
class PreviewFile {
 public:
  PreviewFile(std::filesystem::path path, bool is_kept) : path_(std::move(path)), is_kept_(is_kept) {}
  ~PreviewFile();
  PreviewFile(const PreviewFile&) = delete;
  PreviewFile& operator=(const PreviewFile&) = delete;
  void show(const std::vector<media::Frames>& clips);

 private:
  std::filesystem::path path_;
  bool is_kept_, is_written_ = false, has_failed_ = false;
};

}  // namespace kinora::cli
