#include "kinora/media/ffmpeg.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/base/utf8.h"
#include "kinora/media/limits.h"

namespace kinora::media {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kDecoderMemoryBytes = uint64_t{6} << 30;
constexpr uint64_t kDecoderCpuSeconds = 1800;
constexpr size_t kMaxProbeBytes = size_t{8} << 20;
constexpr const char* kWithout = "save as .gif or into a folder of .png, which work without";
constexpr std::array kPresets = {"ultrafast", "superfast", "veryfast", "faster",  "fast",
                                 "medium",    "slow",      "slower",   "veryslow"};

fs::path program(const char* name) {
  fs::path path = find_program(name);
  if (path.empty()) {
    throw ResourceError(concat("the program ", name, " is not on PATH; MP4 needs it"),
                        concat("install version 5.1 or newer (Debian: apt-get install ffmpeg), or ", kWithout));
  }
  return path;
}

/// The explicit protocol keeps names such as "concat:a|b" or "-x" from meaning anything else than a file.
std::string file_url(const fs::path& path) { return "file:" + path.string(); }

std::string number(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  return std::string(text.data(), end.ptr);
}

/// Metadata in ffmpeg's own text format, given on a descriptor: an argument may have 128 KiB at most and shows in `ps`.
std::string ffmetadata(const Metadata& metadata) {
  std::string out = ";FFMETADATA1\n";
  const auto add = [&out](std::string_view key, std::string_view value) {
    if (value.empty()) return;
    out.append(key).push_back('=');
    for (const char c : value) {
      if (c == '=' || c == ';' || c == '#' || c == '\\' || c == '\n') out.push_back('\\');
      out.push_back(c);
    }
    out.push_back('\n');
  };
  add("title", clean_text(metadata.prompt));
  add("comment", to_json(metadata));
  return out;
}

std::vector<std::string> encoder_arguments(int64_t height, int64_t width, const VideoOptions& options,
                                           const fs::path& temp) {
  const int64_t even_height = height + height % 2, even_width = width + width % 2;
  return {"-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-protocol_whitelist", "pipe", "-f", "rawvideo",
          "-pixel_format", "rgb24", "-video_size", concat(even_width, "x", even_height), "-framerate",
          number(options.fps), "-i", "pipe:0", "-protocol_whitelist", "pipe", "-f", "ffmetadata", "-i", "pipe:3",
          "-map", "0:v", "-map_metadata", "1", "-vf",
          // ffmpeg's default is BT.601, which players take for BT.709 on anything large.
          "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p", "-c:v",
          "libx264", "-preset", options.preset, "-crf", concat(options.crf), "-colorspace", "bt709", "-color_primaries",
          "bt709", "-color_trc", "bt709", "-color_range", "tv",
          // No version strings of the encoder: one clip gives one file.
          "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4", file_url(temp)};
}

/// ffmpeg reads "24000/1001" or "24/1".
double ratio(const std::string& text) {
  const size_t slash = text.find('/');
  const auto value = [](std::string_view digits) {
    double out = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return out;
  };
  const std::string_view view = text;
  const double top = value(view.substr(0, slash)),
               bottom = slash == std::string::npos ? 1.0 : value(view.substr(slash + 1));
  return bottom > 0 ? top / bottom : 0.0;
}

void check_is_mp4(const fs::path& path) {
  // Also refuses folders and pipes, at which a child would wait for ever.
  const MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() < 12 || std::memcmp(bytes.data() + 4, "ftyp", 4) != 0)
    throw DataError(concat("'", path.string(), "' is no MP4 file"));
}

ProcessOptions decoder_options() {
  ProcessOptions options;
  options.read_output = true;
  options.max_memory_bytes = kDecoderMemoryBytes;
  options.max_cpu_seconds = kDecoderCpuSeconds;
  return options;
}

/// What the child writes, up to a little more than kMaxProbeBytes.
std::string read_text(Process& process) {
  std::string text;
  std::array<uint8_t, 65536> block;
  while (const size_t got = process.read(block)) {
    text.append(reinterpret_cast<const char*>(block.data()), got);
    if (text.size() > kMaxProbeBytes) break;
  }
  return text;
}

[[noreturn]] void unreadable(const fs::path& path, const Process& process) {
  const std::string line = process.last_error_line();
  if (line.find("fps_mode") != std::string::npos)
    throw ResourceError(concat("the program ffmpeg is too old: ", line), "install version 5.1 or newer");
  throw DataError(concat("'", path.string(), "' cannot be read as MP4", line.empty() ? "" : ": ", line));
}

int64_t integer_or_zero(const JsonObject& object, const char* key) {
  return std::strtoll(object.string_or(key, "0").c_str(), nullptr, 10);
}

VideoInfo info_of(const fs::path& path, const std::string& text) {
  const Json json = parse_json(text, {.max_bytes = kMaxProbeBytes}, "ffprobe's answer");
  const JsonObject root(json, concat("'", path.string(), "'"));
  const Json& streams = root.require_array("streams");
  if (streams.empty()) throw DataError(concat("'", path.string(), "' has no video stream"));
  const JsonObject stream(streams.front(), concat("'", path.string(), "'"));
  VideoInfo info;
  info.height = stream.int_or("height", 0);
  info.width = stream.int_or("width", 0);
  info.frames = integer_or_zero(stream, "nb_read_packets");
  if (integer_or_zero(stream, "nb_frames") > info.frames) {
    throw DataError(concat("'", path.string(), "' is cut short: it holds ", info.frames, " of ",
                           integer_or_zero(stream, "nb_frames"), " frames"));
  }
  info.fps = ratio(stream.string_or("avg_frame_rate", "0/1"));
  if (!root.has("format") || !root.require_object("format").has("tags")) return info;
  const JsonObject tags = root.require_object("format").require_object("tags");
  info.metadata = metadata_from_json(tags.string_or("comment", ""));
  if (info.metadata.prompt.empty()) info.metadata.prompt = tags.string_or("title", "");
  return info;
}

/// Copies one row [W, 3], repeating the last pixel where the width is odd.
void append_row(std::vector<uint8_t>& out, const uint8_t* row, int64_t width) {
  out.insert(out.end(), row, row + 3 * width);
  if (width % 2 != 0) out.insert(out.end(), row + 3 * (width - 1), row + 3 * width);
}

}  // namespace

void require_ffmpeg() {
  program("ffmpeg");
  program("ffprobe");
}

void require_h264() {
  require_ffmpeg();
  ProcessOptions options;
  options.read_output = true;
  // Status 0 also for an encoder that is not there.
  Process process(program("ffmpeg"), {"-hide_banner", "-h", "encoder=libx264"}, options);
  if (read_text(process).starts_with("Encoder libx264")) return;
  throw ResourceError("the program ffmpeg is built without libx264; MP4 needs it",
                      concat("install one with it (Debian: apt-get install ffmpeg), or ", kWithout));
}

std::string ffmpeg_version() {
  require_ffmpeg();
  ProcessOptions options;
  options.read_output = true;
  Process process(program("ffmpeg"), {"-version"}, options);
  const std::string text = read_text(process);
  constexpr std::string_view kBegin = "ffmpeg version ";
  if (!text.starts_with(kBegin)) {
    throw ResourceError("the program ffmpeg does not tell its version",
                        concat("install version 5.1 or newer (Debian: apt-get install ffmpeg), or ", kWithout));
  }
  const size_t end = std::min(text.find_first_of(" \n", kBegin.size()), text.size());
  return printable(text.substr(kBegin.size(), end - kBegin.size()));
}

VideoWriter::VideoWriter(const fs::path& path, int64_t height, int64_t width, const VideoOptions& options,
                         Metadata metadata)
    : height_(height), width_(width), file_((check_picture_size<UsageError>("MP4", height, width), path)) {
  check_sizes(1, height, width, options.fps);
  if (options.crf < 0 || options.crf > 51) throw UsageError(concat("MP4: crf ", options.crf, " is not in 0 to 51"));
  if (std::find(kPresets.begin(), kPresets.end(), options.preset) == kPresets.end()) {
    throw UsageError(concat("MP4: there is no preset '", printable(options.preset), "'"),
                     "take one from ultrafast to veryslow, such as medium");
  }
  require_ffmpeg();
  metadata.height = height;
  metadata.width = width;
  metadata.fps = options.fps;
  ProcessOptions pipes;
  pipes.write_input = true;
  pipes.has_extra_input = true;
  pipes.extra_input = ffmetadata(metadata);
  process_ =
      std::make_unique<Process>(program("ffmpeg"), encoder_arguments(height, width, options, file_.temp_path()), pipes);
}

VideoWriter::~VideoWriter() = default;

void VideoWriter::give_up() {
  const int status = process_->wait();
  const std::string line = process_->last_error_line();
  process_.reset();
  throw ResourceError(concat("'", file_.target().string(), "' cannot be written: ffmpeg ",
                             line.empty() ? concat("ended with status ", status) : concat("says: ", line)),
                      "check the free space of the disk; nothing was left there");
}

void VideoWriter::write(const Frames& batch) {
  check(batch);
  if (batch.height != height_ || batch.width != width_) {
    throw UsageError(concat("MP4: frames of ", batch.width, "x", batch.height, " in a clip of ", width_, "x", height_));
  }
  if (!process_) throw UsageError("MP4: the file is finished already");
  std::vector<uint8_t> padded;
  const bool is_even = height_ % 2 == 0 && width_ % 2 == 0;
  for (int64_t f = 0; f < batch.frames; ++f) {
    const uint8_t* frame = batch.frame(f);
    std::span<const uint8_t> bytes(frame, static_cast<size_t>(batch.frame_bytes()));
    if (!is_even) {
      padded.clear();
      for (int64_t y = 0; y < height_ + height_ % 2; ++y)
        append_row(padded, frame + std::min(y, height_ - 1) * 3 * width_, width_);
      bytes = padded;
    }
    if (!process_->write(bytes)) give_up();
    ++num_frames_;
  }
}

void VideoWriter::commit() {
  if (!process_) throw UsageError("MP4: the file is finished already");
  if (num_frames_ == 0) throw UsageError("MP4: a clip without frames");
  if (process_->wait() != 0) give_up();
  process_.reset();
  // ffmpeg may end well although a write failed on the way; what counts is what lies on the disk.
  VideoInfo info;
  try {
    info = probe_video(file_.temp_path());
  } catch (const DataError&) {
    info = {};
  }
  if (info.frames != num_frames_ || info.height != height_ + height_ % 2 || info.width != width_ + width_ % 2) {
    throw ResourceError(concat("'", file_.target().string(), "' cannot be written: ffmpeg left ", info.frames, " of ",
                               num_frames_, " frames"),
                        "check the free space of the disk; nothing was left there");
  }
  file_.commit();
}

VideoInfo probe_video(const fs::path& path) {
  const fs::path ffprobe = program("ffprobe");
  check_is_mp4(path);
  Process process(
      ffprobe,
      {"-v", "error", "-protocol_whitelist", "file", "-f", "mov", "-select_streams", "v:0", "-count_packets",
       "-show_entries", "stream=width,height,nb_frames,nb_read_packets,avg_frame_rate:format_tags=title,comment", "-of",
       "json", file_url(path)},
      decoder_options());
  const std::string text = read_text(process);
  if (text.size() > kMaxProbeBytes)
    throw DataError(concat("'", path.string(), "' has more metadata than is accepted here"));
  if (process.wait() != 0) unreadable(path, process);
  return info_of(path, text);
}

Video read_video(const fs::path& path) {
  const VideoInfo info = probe_video(path);
  check_clip_size<DataError>(path.string(), info.frames, info.height, info.width);
  const bool is_ours =
      (info.metadata.height + 1) / 2 * 2 == info.height && (info.metadata.width + 1) / 2 * 2 == info.width;
  const int64_t height = is_ours ? info.metadata.height : info.height,
                width = is_ours ? info.metadata.width : info.width;
  Process process(program("ffmpeg"),
                  {"-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file", "-noautorotate",
                   "-f", "mov", "-i", file_url(path), "-map", "0:v:0", "-vf",
                   // The size is given, as a stream may change it on the way.
                   concat("scale=w=", info.width, ":h=", info.height,
                          ":flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"),
                   "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"},
                  decoder_options());
  const auto coded_bytes = static_cast<size_t>(3 * info.height * info.width);
  std::vector<uint8_t> coded(coded_bytes);
  Video video;
  video.metadata = info.metadata;
  video.frames.height = height;
  video.frames.width = width;
  video.frames.fps = info.fps > 0 && info.fps <= 1000 ? info.fps : 24.0;
  video.frames.rgb.reserve(static_cast<size_t>(3 * info.frames * height * width));  // growing would hold a clip twice
  size_t filled = 0;
  while (const size_t got = process.read(std::span(coded).subspan(filled))) {
    filled += got;
    if (filled < coded_bytes) continue;
    filled = 0;
    if (++video.frames.frames > info.frames)
      throw DataError(concat("'", path.string(), "' has more frames than it says"));
    for (int64_t y = 0; y < height; ++y) {
      const uint8_t* row = coded.data() + y * 3 * info.width;
      video.frames.rgb.insert(video.frames.rgb.end(), row, row + 3 * width);
    }
  }
  if (process.wait() != 0 || filled != 0 || video.frames.frames == 0) unreadable(path, process);
  // An edit list may leave frames out; damage makes the decoder complain.
  if (video.frames.frames != info.frames && !process.last_error_line().empty()) unreadable(path, process);
  video.metadata.frames = video.frames.frames;
  return video;
}

}  // namespace kinora::media
