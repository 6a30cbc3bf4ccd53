#include "kinora/media/output.h"

#include <stdlib.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"
#include "kinora/media/gif.h"
#include "kinora/media/limits.h"
#include "kinora/media/png.h"

namespace kinora::media {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWorks =
    "name it .mp4, .gif, .png (one picture), a pattern such as out_%04d.png, or a folder with a / at its end";

/// "out_%04d.png" as its parts; nothing when the name has no such place.
struct Pattern {
  std::string before, after;
  size_t digits = 1;

  std::string name(int64_t index) const {
    std::string number = std::to_string(index);
    if (number.size() < digits) number.insert(0, digits - number.size(), '0');
    return before + number + after;
  }
};

std::optional<Pattern> pattern_of(const std::string& name) {
  const size_t percent = name.find('%');
  if (percent == std::string::npos) return std::nullopt;
  size_t at = percent + 1, digits = 0;
  while (at < name.size() && std::isdigit(static_cast<unsigned char>(name[at])) != 0 && digits < 10) {
    digits = 10 * digits + static_cast<size_t>(name[at++] - '0');
  }
  if (at == name.size() || name[at] != 'd' || digits > 9) return std::nullopt;
  return Pattern{name.substr(0, percent), name.substr(at + 1), std::max<size_t>(1, digits)};
}

std::string lower_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

/// False too for what this user may not look at; what is done with it then tells why.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string quoted(const fs::path& path) { return "'" + printable(path.string(), 200) + "'"; }

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

TextEntries png_text_of(const Metadata& metadata) {
  TextEntries text;
  if (!metadata.prompt.empty()) text.emplace_back("Title", metadata.prompt);
  text.emplace_back("Software", "Kinora");
  text.emplace_back("Comment", to_json(metadata));
  return text;
}

Metadata metadata_of(const TextEntries& text) {
  Metadata metadata;
  std::string title;
  for (const auto& [keyword, value] : text) {
    if (keyword == "Comment") metadata = metadata_from_json(value);
    if (keyword == "Title") title = value;
  }
  if (metadata.prompt.empty()) metadata.prompt = title;
  return metadata;
}

void save_mp4(const fs::path& path, const Frames& frames, const Metadata& metadata, VideoOptions options) {
  options.fps = frames.fps;
  VideoWriter writer(path, frames.height, frames.width, options, metadata);
  writer.write(frames);
  writer.commit();
}

/// Removes what was written, unless all of it was.
class Undo {
 public:
  ~Undo() {
    std::error_code ignored;
    for (auto at = made_.rbegin(); at != made_.rend(); ++at) fs::remove(*at, ignored);
  }
  void add(fs::path path) { made_.push_back(std::move(path)); }
  void keep() { made_.clear(); }

 private:
  std::vector<fs::path> made_;
};

void save_pngs(const fs::path& folder, const Pattern& pattern, const Frames& frames, const Metadata& metadata) {
  if (is_there(folder / pattern.name(frames.frames))) {
    throw UsageError(concat(quoted(folder / pattern.name(frames.frames)), " is left from a longer clip"),
                     "remove the old pictures first, or choose another name");
  }
  Undo undo;
  if (!is_there(folder)) {
    std::error_code error;
    if (!fs::create_directory(folder, error))
      throw ResourceError(concat("cannot create folder ", quoted(folder), ": ", error.message()));
    undo.add(folder);
  }
  std::string temp = (folder / ".pictures.tmp-XXXXXX").string();
  if (::mkdtemp(temp.data()) == nullptr) {
    throw ResourceError(
        concat("cannot write in folder ", quoted(folder), ": ", std::generic_category().message(errno)));
  }
  undo.add(temp);
  const TextEntries text = png_text_of(metadata);
  for (int64_t f = 0; f < frames.frames; ++f) {
    undo.add(temp / fs::path(pattern.name(f)));
    write_png(temp / fs::path(pattern.name(f)), frames, f, text);
  }
  // What can fail has been done: the old pictures, if any, are replaced by whole ones, and a name takes no room.
  for (int64_t f = 0; f < frames.frames; ++f) {
    std::error_code error;
    fs::rename(temp / fs::path(pattern.name(f)), folder / pattern.name(f), error);
    if (error) throw ResourceError(concat(quoted(folder / pattern.name(f)), " cannot be written: ", error.message()));
  }
  sync_folder(folder);
  undo.keep();
  std::error_code ignored;
  fs::remove(temp, ignored);
}

const Pattern& folder_pattern() {
  static const Pattern pattern{"frame_", ".png", 4};
  return pattern;
}

Clip load_pngs(const fs::path& where, const std::vector<fs::path>& paths) {
  if (paths.empty()) throw UsageError(concat(quoted(where), " has no .png"), "name a clip, or a folder of .png");
  Clip clip;
  for (const fs::path& path : paths) {
    Picture picture = read_png(path);
    Frames& frames = clip.frames;
    if (frames.frames == 0) {
      clip.metadata = metadata_of(picture.text);
      frames = std::move(picture.frames);
      check_clip_size<DataError>(where.string(), static_cast<int64_t>(paths.size()), frames.height, frames.width);
      frames.rgb.reserve(paths.size() * static_cast<size_t>(frames.frame_bytes()));
    } else {
      if (picture.frames.height != frames.height || picture.frames.width != frames.width) {
        throw DataError(concat(quoted(path), " has ", picture.frames.width, "x", picture.frames.height,
                               " pixels, the pictures before it ", frames.width, "x", frames.height));
      }
      frames.rgb.insert(frames.rgb.end(), picture.frames.rgb.begin(), picture.frames.rgb.end());
      ++frames.frames;
    }
  }
  if (clip.metadata.fps > 0 && clip.metadata.fps <= 1000) clip.frames.fps = clip.metadata.fps;
  return clip;
}

std::vector<fs::path> pngs_in(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error, ignored;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_regular_file(ignored) && lower_extension(entry->path()) == ".png" &&
        entry->path().filename().string().front() != '.') {
      paths.push_back(entry->path());
    }
  }
  if (error) throw ResourceError(concat("the folder ", quoted(folder), " cannot be read: ", error.message()));
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<fs::path> pngs_of(const fs::path& folder, const Pattern& pattern) {
  std::vector<fs::path> paths;
  for (int64_t index = is_there(folder / pattern.name(0)) ? 0 : 1; is_there(folder / pattern.name(index)); ++index) {
    paths.push_back(folder / pattern.name(index));
    if (index > kMaxFrames) break;  // load_pngs refuses it
  }
  return paths;
}

std::string first_bytes(const fs::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 12));
}

}  // namespace

OutputKind output_kind(const fs::path& path) {
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  const std::string extension = lower_extension(path);
  if (path.empty()) throw UsageError("the output has no name", kWorks);
  if (is_folder || !path.has_filename()) return OutputKind::kPngFolder;
  if (extension == ".png") return pattern_of(path.filename().string()) ? OutputKind::kPngPattern : OutputKind::kPng;
  if (extension == ".mp4") return OutputKind::kMp4;
  if (extension == ".gif") return OutputKind::kGif;
  throw UsageError(concat("the output ", quoted(path), " is of a kind that cannot be written"), kWorks);
}

void check_output_size(const fs::path& path, int64_t frames, int64_t height, int64_t width) {
  const OutputKind kind = output_kind(path);
  if (kind == OutputKind::kPng && frames > 1) {
    throw UsageError(concat("the output ", quoted(path), " is one picture, the clip has ", frames),
                     "name it .mp4 or .gif, a pattern such as out_%04d.png, or a folder with a / at its end");
  }
  if (kind == OutputKind::kGif)
    check_clip_size<UsageError>("GIF", frames, height, width);
  else
    check_picture_size<UsageError>("the output", height, width);
}

void check_output(const fs::path& path) {
  const OutputKind kind = output_kind(path);
  std::error_code ignored;
  fs::path folder = folder_of(path);
  if (kind == OutputKind::kPngFolder && fs::is_directory(path, ignored))
    folder = path;
  else if (kind == OutputKind::kPngFolder)
    folder = folder_of(folder);  // "a/b/": b is to be made in a
  if (kind == OutputKind::kPngFolder && folder != path && is_there(path.parent_path()))
    throw UsageError(concat("the output folder ", quoted(path.parent_path()), " is a file"), "name another folder");
  if (!fs::exists(folder, ignored)) {
    throw UsageError(concat("the output folder ", quoted(folder), " does not exist"),
                     "create it first, or name another");
  }
  if (!fs::is_directory(folder, ignored))
    throw UsageError(concat("the output folder ", quoted(folder), " is a file"), "name another folder");
  if (folder == path && kind == OutputKind::kPngFolder && !pngs_in(path).empty()) {
    throw UsageError(concat("the output folder ", quoted(path), " has pictures already"),
                     "empty it first, or name another");
  }
  // Permission bits do not tell of read-only mounts and quotas; a file that was opened does.
  AtomicFile(kind == OutputKind::kPngFolder || kind == OutputKind::kPngPattern ? folder / folder_pattern().name(0)
                                                                               : path);
  if (kind == OutputKind::kMp4) require_ffmpeg();
}

void save_clip(const fs::path& path, const Frames& frames, const Metadata& given, const VideoOptions& options) {
  check(frames);
  check_output_size(path, frames.frames, frames.height, frames.width);
  check_output(path);
  Metadata metadata = given;
  metadata.frames = frames.frames;
  metadata.height = frames.height;
  metadata.width = frames.width;
  metadata.fps = frames.fps;
  switch (output_kind(path)) {
    case OutputKind::kMp4: return save_mp4(path, frames, metadata, options);
    case OutputKind::kGif: return write_gif(path, frames, to_json(metadata));
    case OutputKind::kPng: return write_png(path, frames, 0, png_text_of(metadata));
    case OutputKind::kPngPattern:
      return save_pngs(folder_of(path), *pattern_of(path.filename().string()), frames, metadata);
    case OutputKind::kPngFolder:
      return save_pngs(path.has_filename() ? path : path.parent_path(), folder_pattern(), frames, metadata);
  }
}

Clip load_clip(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return load_pngs(path, pngs_in(path));
  if (const auto pattern = pattern_of(path.filename().string()); pattern && !fs::exists(path, ignored)) {
    return load_pngs(path, pngs_of(folder_of(path), *pattern));
  }
  const std::string magic = first_bytes(path);
  if (magic.starts_with("\x89PNG")) return load_pngs(path, {path});
  if (magic.starts_with("GIF8")) {
    Gif gif = read_gif(path);
    Clip clip{std::move(gif.frames), metadata_from_json(gif.comment)};
    // A GIF holds hundredths of a second; the true rate stands in the metadata.
    if (clip.metadata.fps > 0 && clip.metadata.fps <= 1000) clip.frames.fps = clip.metadata.fps;
    return clip;
  }
  if (magic.size() == 12 && magic.substr(4, 4) == "ftyp") {
    Video video = read_video(path);
    return {std::move(video.frames), std::move(video.metadata)};
  }
  throw DataError(concat(quoted(path), " is no clip that can be read"),
                  "give an MP4, GIF or PNG file, or a folder of .png");
}

}  // namespace kinora::media
