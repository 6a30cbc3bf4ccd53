// MP4 (H.264, yuv420p, BT.709) through the programs ffmpeg and ffprobe: raw frames go through a pipe, options through
// an argument list. FFmpeg's libraries are not linked: Debian's are GPL, and a decoder that dies does so in its own
// process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "kinora/base/file.h"
#include "kinora/media/frames.h"
#include "kinora/media/metadata.h"
#include "kinora/media/process.h"

namespace kinora::media {

/// Throws ResourceError, which says how to get ffmpeg and what works without, when ffmpeg or ffprobe is not on PATH.
/// Version 5.1 or newer is what is needed.
void require_ffmpeg();

/// Throws ResourceError too when this ffmpeg is built without libx264. Starts it, some 50 ms: for once before work.
void require_h264();

/// "5.1.6-0+deb12u1", as the program itself says it. Throws as require_ffmpeg, and when it says something else.
std::string ffmpeg_version();

struct VideoOptions {
  double fps = 24.0;
  int crf = 18;                   ///< 0 (lossless but for the colour conversion) to 51; 18 looks like the original
  std::string preset = "medium";  ///< ultrafast ... veryslow
};

/// Writes one MP4 as frames arrive, so that encoding overlaps what makes them. The file appears at commit(), or not at
/// all: without commit() (an exception, a cancel) ffmpeg is ended and its temporary removed. An odd width or height is
/// padded by repeating the last column or row, as yuv420p needs even sides; the true size is in the metadata and
/// read_video cuts the rest off.
class VideoWriter {
 public:
  /// Throws UsageError for sizes or options that cannot be, ResourceError when ffmpeg is missing or the folder cannot
  /// be written.
  VideoWriter(const std::filesystem::path& path, int64_t height, int64_t width, const VideoOptions& options = {},
              Metadata metadata = {});
  ~VideoWriter();

  /// Appends all frames of a batch of this height and width. Throws UsageError for another size, ResourceError with
  /// ffmpeg's last words when it failed.
  void write(const Frames& batch);
  /// Ends the file, reads back its size and frame count, and gives it its name. Throws UsageError without a frame,
  /// ResourceError when the file did not become what it must be.
  void commit();
  int64_t num_frames() const { return num_frames_; }

 private:
  void give_up();
  int64_t height_, width_, num_frames_ = 0;
  AtomicFile file_;
  std::unique_ptr<Process> process_;
};

struct VideoInfo {
  int64_t frames = 0;             ///< packets of the first video stream
  int64_t height = 0, width = 0;  ///< of the stream: even for our own files
  double fps = 0;
  Metadata metadata;
};

/// What an MP4 holds, without decoding it. Throws DataError when it is no MP4 with a video stream.
VideoInfo probe_video(const std::filesystem::path& path);

struct Video {
  Frames frames;
  Metadata metadata;
};

/// Decodes an MP4. The child that does it may open nothing but this file and has limits of memory and time; its death
/// is a DataError, as is a clip over the limits of limits.h. Throws ResourceError for an ffmpeg older than 5.1.
Video read_video(const std::filesystem::path& path);

}  // namespace kinora::media
