#include "kinora/media/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/media/limits.h"
#include "kinora/media/metadata.h"

namespace kinora::media {
namespace {

// libpng leaves an error by longjmp, which must not skip C++ destructors. So the functions between setjmp and the calls
// of libpng hold only plain data, and everything that owns memory lives in the caller's Job.
constexpr size_t kMessageBytes = 160;
constexpr size_t kMaxPngBytes = size_t{256} << 20;
constexpr size_t kMaxChunkBytes = size_t{2} << 20;  // of any chunk but the pixels', packed and unpacked
constexpr int kMaxTextChunks = 64;

struct WriteJob {
  const Frames* frames = nullptr;
  int64_t index = 0;
  std::vector<png_text> text;
  std::vector<uint8_t> bytes;
  bool out_of_memory = false;
  char message[kMessageBytes] = {};
};

struct ReadJob {
  std::span<const uint8_t> bytes;
  size_t at = 0;
  Picture picture;
  bool out_of_memory = false;
  char message[kMessageBytes] = {};
};

template <typename Job>
[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* job = static_cast<Job*>(png_get_error_ptr(png));
  std::strncpy(job->message, message, kMessageBytes - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void append_bytes(png_structp png, png_bytep data, size_t length) {
  auto* job = static_cast<WriteJob*>(png_get_io_ptr(png));
  try {
    job->bytes.insert(job->bytes.end(), data, data + length);
  } catch (...) {
    job->out_of_memory = true;  // an exception must not cross C frames
  }
  if (job->out_of_memory) png_error(png, "out of memory");
}

void flush_nothing(png_structp) {}

void take_bytes(png_structp png, png_bytep data, size_t length) {
  auto* job = static_cast<ReadJob*>(png_get_io_ptr(png));
  if (job->bytes.size() - job->at < length) png_error(png, "the file ends too early");
  std::memcpy(data, job->bytes.data() + job->at, length);
  job->at += length;
}

bool run(WriteJob& job) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error<WriteJob>, on_warning);
  if (png == nullptr) return false;
  png_infop info = png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_write_struct(&png, &info);
    return false;
  }
  png_set_write_fn(png, &job, append_bytes, flush_nothing);
  const auto height = static_cast<png_uint_32>(job.frames->height), width = static_cast<png_uint_32>(job.frames->width);
  png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (!job.text.empty()) png_set_text(png, info, job.text.data(), static_cast<int>(job.text.size()));
  png_write_info(png, info);
  const size_t row_bytes = size_t{3} * width;
  const uint8_t* row = job.frames->frame(job.index);
  for (png_uint_32 y = 0; y < height; ++y, row += row_bytes) png_write_row(png, row);
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return true;
}

void allocate(ReadJob& job, int64_t height, int64_t width) {
  try {
    Frames& frames = job.picture.frames;
    frames.frames = 1;
    frames.height = height;
    frames.width = width;
    frames.rgb.resize(static_cast<size_t>(3 * height * width));
  } catch (...) {
    job.out_of_memory = true;
  }
}

void take_text(ReadJob& job, const png_text* text, int count) {
  try {
    for (int i = 0; i < count; ++i) {
      if (text[i].key == nullptr || text[i].text == nullptr) continue;
      // tEXt is Latin-1 by the standard, but many programs put UTF-8 there; what is not becomes U+FFFD.
      job.picture.text.emplace_back(clean_text(text[i].key), clean_text(text[i].text));
    }
  } catch (...) {
    job.out_of_memory = true;
  }
}

bool run(ReadJob& job) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error<ReadJob>, on_warning);
  if (png == nullptr) return false;
  png_infop info = png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_user_limits(png, kMaxSide, kMaxSide);
  png_set_chunk_cache_max(png, kMaxTextChunks);
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_read_fn(png, &job, take_bytes);
  png_read_info(png, info);
  const auto height = static_cast<int64_t>(png_get_image_height(png, info));
  const auto width = static_cast<int64_t>(png_get_image_width(png, info));
  if (height * width > kMaxPixels) png_error(png, "the picture is over the limit of 33 M pixels");
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != static_cast<size_t>(3 * width)) png_error(png, "the rows are not RGB");
  allocate(job, height, width);
  if (job.out_of_memory) png_error(png, "out of memory");
  for (int pass = 0; pass < passes; ++pass) {
    uint8_t* row = job.picture.frames.rgb.data();
    for (int64_t y = 0; y < height; ++y, row += 3 * width) png_read_row(png, row, nullptr);
  }
  png_read_end(png, info);
  png_textp text = nullptr;
  int count = 0;
  png_get_text(png, info, &text, &count);
  take_text(job, text, count);
  if (job.out_of_memory) png_error(png, "out of memory");
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

/// Walks the chunks (length, kind, data, checksum) before libpng sees them: it allocates what a text chunk claims, up
/// to 2 GiB, although the file ends before.
void check_chunks(std::span<const uint8_t> bytes, std::string_view name) {
  for (size_t at = 8; at < bytes.size();) {
    const size_t left = bytes.size() - at;
    const size_t length = left >= 12 ? big_endian(&bytes[at]) : 0;
    if (left < 12 || length > left - 12) throw DataError(concat("'", name, "' is damaged: the PNG ends too early"));
    const bool is_pixels = std::memcmp(&bytes[at + 4], "IDAT", 4) == 0;
    if (!is_pixels && length > kMaxChunkBytes)
      throw DataError(concat("'", name, "': a PNG chunk of ", length, " bytes"));
    if (std::memcmp(&bytes[at + 4], "IEND", 4) == 0) return;
    at += 12 + length;
  }
  throw DataError(concat("'", name, "' is damaged: the PNG ends too early"));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

std::vector<uint8_t> encode_png(const Frames& frames, int64_t index, const TextEntries& text) {
  check_picture_size<UsageError>("PNG", frames.height, frames.width);
  if (index < 0 || index >= frames.frames) throw UsageError(concat("PNG: frame ", index, " of ", frames.frames));
  check(frames);
  WriteJob job;
  job.frames = &frames;
  job.index = index;
  std::vector<std::string> values;
  values.reserve(text.size());
  for (const auto& [keyword, value] : text) {
    if (keyword.empty() || keyword.size() > 79 || !is_ascii(keyword)) {
      throw UsageError(concat("PNG: '", keyword, "' is no keyword"), "a keyword has 1 to 79 ASCII characters");
    }
    values.push_back(clean_text(value));
  }
  for (size_t i = 0; i < text.size(); ++i) {
    png_text entry{};
    const bool plain = is_ascii(values[i]);
    entry.compression = plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    entry.key = const_cast<char*>(text[i].first.c_str());  // libpng's struct serves reading as well
    entry.text = values[i].data();
    (plain ? entry.text_length : entry.itxt_length) = values[i].size();
    job.text.push_back(entry);
  }
  if (!run(job)) throw ResourceError(concat("PNG: cannot encode the picture: ", job.message));
  return std::move(job.bytes);
}

Picture decode_png(std::span<const uint8_t> bytes, std::string_view name) {
  ReadJob job;
  job.bytes = bytes;
  if (bytes.size() < 8 || png_sig_cmp(bytes.data(), 0, 8) != 0) throw DataError(concat("'", name, "' is no PNG file"));
  check_chunks(bytes, name);
  // libpng would call a picture that is too large damaged.
  if (bytes.size() >= 24 && std::memcmp(bytes.data() + 12, "IHDR", 4) == 0) {
    const int64_t width = png_get_uint_32(bytes.data() + 16), height = png_get_uint_32(bytes.data() + 20);
    if (height > 0 && width > 0) check_picture_size<DataError>(concat("'", name, "'"), height, width);
  }
  if (!run(job)) {
    if (job.out_of_memory) throw ResourceError(concat("'", name, "': not enough memory for the picture"));
    throw DataError(concat("'", name, "' is damaged or no PNG that can be read: ", job.message));
  }
  return std::move(job.picture);
}

void write_png(const std::filesystem::path& path, const Frames& frames, int64_t index, const TextEntries& text) {
  const std::vector<uint8_t> bytes = encode_png(frames, index, text);
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Picture read_png(const std::filesystem::path& path) {
  const std::string bytes = read_file(path, kMaxPngBytes);
  return decode_png({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace kinora::media
