#include "kinora/cli/prompts_file.h"

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"

namespace kinora::cli {
namespace {

constexpr uint64_t kMostBytes = uint64_t{4} << 20;

std::string_view stripped(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\v\f";
  const size_t begin = line.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kBlank) - begin + 1);
}

}  // namespace

std::vector<std::string> read_prompts(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMostBytes);
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  std::vector<std::string> prompts;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = stripped(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.front() == '#') continue;
    if (!is_utf8(line)) {
      throw DataError(concat("'", printable(path.string(), 200), "': line ", number, " is not UTF-8"),
                      "save the file as UTF-8: iconv -f latin1 -t utf-8 converts one");
    }
    prompts.emplace_back(line);
  }
  if (prompts.empty())
    throw DataError(concat("'", printable(path.string(), 200), "' has no prompt"), "write one prompt a line");
  return prompts;
}

}  // namespace kinora::cli
