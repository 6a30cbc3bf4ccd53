#include "kinora/comm/launcher.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <regex>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::comm {
namespace {

constexpr size_t kLongestTag = 40;  // "[1,1234567]<stderr>:"

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::vector<std::string> words(std::string_view line) {
  std::vector<std::string> out;
  for (size_t at = 0; at < line.size();) {
    const size_t begin = line.find_first_not_of(" \t\r", at);
    if (begin == std::string_view::npos) break;
    at = std::min(line.find_first_of(" \t\r", begin), line.size());
    out.emplace_back(line.substr(begin, at - begin));
  }
  return out;
}

/// The tag at the beginning of the text: its length and rank; 0 where there is none, npos where the text is too short
/// to tell.
std::pair<size_t, int> read_tag(std::string_view text) {
  constexpr auto kShort = std::pair{std::string_view::npos, 0};
  constexpr auto kNone = std::pair{size_t{0}, 0};
  size_t at = 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) != 0) ++at;
    return text.substr(begin, at - begin);
  };
  if (text.empty()) return kShort;
  if (text[at++] != '[') return kNone;
  const auto job = digits();
  if (at == text.size()) return at < kLongestTag ? kShort : kNone;
  if (job.empty() || text[at++] != ',') return kNone;
  const auto rank = digits();
  if (at == text.size()) return at < kLongestTag ? kShort : kNone;
  for (const std::string_view stream : {"]<stdout>:", "]<stderr>:"}) {
    const auto have = text.substr(at, stream.size());
    if (have == stream) {
      int value = -1;
      std::from_chars(rank.data(), rank.data() + rank.size(), value);
      return value < 0 ? kNone : std::pair{at + stream.size(), value};
    }
    if (at + have.size() == text.size() && stream.starts_with(have)) return kShort;
  }
  return kNone;
}

}  // namespace

std::vector<Host> read_hosts(std::string_view text, std::string_view what) {
  std::vector<Host> hosts;
  int number = 0;
  for (const std::string& line : split_lines(text)) {
    ++number;
    const auto parts = words(std::string_view(line).substr(0, line.find('#')));
    if (parts.empty()) continue;
    Host host{parts[0]};
    const bool is_name = std::all_of(host.name.begin(), host.name.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_' || c == ':';
    });
    bool fits = is_name && host.name[0] != '-' && parts.size() <= 2;
    if (parts.size() == 2) {
      constexpr std::string_view kSlots = "slots=";
      const char* end = parts[1].data() + parts[1].size();
      const auto got = parts[1].starts_with(kSlots) ? std::from_chars(parts[1].data() + kSlots.size(), end, host.slots)
                                                    : std::from_chars_result{end, std::errc::invalid_argument};
      fits = fits && got.ec == std::errc() && got.ptr == end && host.slots >= 1 && host.slots <= 4096;
    }
    if (!fits)
      throw DataError(concat(what, ", line ", number, ": '", printable(line), "' is no host"),
                      "write one host a line: name, or name slots=4");
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) throw DataError(concat(what, " names no host"), "write one host a line: name, or name slots=4");
  return hosts;
}

std::string hosts_file(const std::vector<Host>& hosts) {
  std::string text;
  for (const Host& host : hosts) text += concat(host.name, " slots=", host.slots, "\n");
  return text;
}

std::filesystem::path records_folder(const Launch& launch) { return launch.folder / "records"; }

std::vector<std::string> mpirun_arguments(const Launch& launch) {
  std::vector<std::string> out{"-n",  std::to_string(launch.ranks), "--tag-output", "--oversubscribe", "--bind-to",
                               "none"};
  out.insert(out.end(), {"--mca", "state_base_verbose", "1"});  // or half of the time nobody knows which rank failed
  if (!launch.hosts.empty()) out.insert(out.end(), {"--hostfile", (launch.folder / "hosts").string()});
  if (launch.is_elsewhere) {
    for (const char* name :
         {"OMP_NUM_THREADS", "KINORA_DEADLINE", "KINORA_COMM_CHECK", "KINORA_TERMINAL", "KINORA_LAUNCHED"})
      out.insert(out.end(), {"-x", name});
  }
  out.insert(out.end(), launch.command.begin(), launch.command.end());
  return out;
}

std::vector<std::pair<std::string, std::string>> mpirun_variables(
    const Launch& launch, const std::function<const char*(const char*)>& variable) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto unless_given = [&](const char* name, std::string value) {
    if (variable(name) == nullptr) out.emplace_back(name, std::move(value));
  };
  int slots = 0;
  for (const Host& host : launch.hosts) slots = std::max(slots, host.slots);
  const int ranks_here = std::clamp(slots, 1, launch.ranks);
  unless_given("OMP_NUM_THREADS", std::to_string(std::max(1, launch.cores / (slots > 0 ? ranks_here : launch.ranks))));
  if (launch.deadline_s) out.emplace_back("KINORA_DEADLINE", concat(*launch.deadline_s));
  if (launch.is_terminal) out.emplace_back("KINORA_TERMINAL", "1");
  out.emplace_back("KINORA_LAUNCHED", "1");
  if (launch.is_root) {
    // Open MPI wants to be told twice that root is meant; a container has no other user.
    out.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    out.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  if (launch.is_elsewhere) {
    unless_given("OMPI_MCA_plm_rsh_args", "-o BatchMode=yes -o ConnectTimeout=10");
  } else {
    // All that Open MPI would leave in /tmp and /dev/shm when it is killed lies in a folder that we remove.
    out.emplace_back("KINORA_RECORDS", records_folder(launch).string());
    unless_given("OMPI_MCA_orte_tmpdir_base", launch.folder.string());
    unless_given("OMPI_MCA_btl_vader_backing_directory", launch.folder.string());
    unless_given("OMPI_MCA_btl", "self,vader");  // no sockets between processes of one host
  }
  return out;
}

void TaggedOutput::add(std::string_view bytes, const Take& take) {
  rest_ += bytes;
  read(take, false);
}

void TaggedOutput::finish(const Take& take) { read(take, true); }

void TaggedOutput::read(const Take& take, bool is_end) {
  std::string_view text = rest_;
  const auto give = [&](size_t size) {
    if (size == 0) return;
    take(rank_, text.substr(0, size));
    is_at_line_start_ = text[size - 1] == '\n';
    text.remove_prefix(size);
  };
  while (!text.empty()) {
    const auto [tag, rank] = read_tag(text);
    if (tag == std::string_view::npos && !is_end) break;
    if (tag != 0 && tag != std::string_view::npos) {
      rank_ = rank;
      is_at_line_start_ = false;
      text.remove_prefix(tag);
      continue;
    }
    if (is_at_line_start_) rank_ = -1;
    // To the end of the line, or to what may be the next tag; the first character is none.
    const size_t line_end = text.find('\n');
    const size_t next = std::min(text.find('[', 1), line_end == std::string_view::npos ? line_end : line_end + 1);
    give(std::min(next, text.size()));
  }
  rest_.erase(0, rest_.size() - text.size());
}

std::optional<int> read_state(std::string_view line) {
  const std::string text(line);
  std::smatch m;
  static const std::regex report(R"(\[[^\]]*:\d+\] \[\[\d+,\d+\],\d+\] ACTIVATE (?:JOB|PROC) .*)");
  static const std::regex failed(
      R"(.* PROC \[\[\d+,\d+\],(\d+)\] STATE (?:CALLED ABORT|ABORTED|EXITED WITH NON-ZERO|TERMINATED WITHOUT SYNC).*)");
  if (!std::regex_match(text, report)) return std::nullopt;
  return std::regex_match(text, m, failed) ? std::stoi(m[1].str()) : -1;
}

std::optional<RankEnd> read_rank_end(std::string_view mpirun_words, int code) {
  const std::string text(mpirun_words);
  std::smatch m;
  // The order is that of certainty: an abort names its rank, a code may be that of a rank which followed it.
  static const std::regex aborted(R"(MPI_ABORT was invoked on rank (\d+)[\s\S]*?with errorcode (-?\d+))");
  static const std::regex killed(R"(process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+))");
  static const std::regex coded(R"(Process name: \[\[\d+,\d+\],(\d+)\]\s*Exit code:\s*(-?\d+))");
  static const std::regex early(R"(due to process rank (\d+) with PID \d+ on\s*node \S+ exiting improperly)");
  static const std::regex somebody(R"(process(?:es)? returned\s*a non-zero exit code)");
  const auto number = [&m](size_t i) { return std::stoi(m[i].str()); };
  if (std::regex_search(text, m, aborted)) return RankEnd{.rank = number(1), .exit_code = number(2)};
  if (std::regex_search(text, m, killed)) return RankEnd{.rank = number(1), .signal = number(2)};
  if (std::regex_search(text, m, coded)) return RankEnd{.rank = number(1), .exit_code = number(2)};
  if (std::regex_search(text, m, early)) return RankEnd{.rank = number(1), .is_early = true};
  // A code above 128 tells a signal, as in a shell.
  if (std::regex_search(text, m, somebody)) return RankEnd{.signal = code > 128 ? code - 128 : 0, .exit_code = code};
  return std::nullopt;
}

std::string describe(const RankEnd& end) {
  const std::string who = end.rank < 0 ? "a rank" : concat("rank ", end.rank);
  if (end.signal != 0) return concat(who, " was killed by signal ", end.signal);
  if (end.is_early) return who + " ended before the others were done with it";
  return concat(who, " ended with exit code ", end.exit_code);
}

std::string telling_lines(std::string_view mpirun_words, size_t most) {
  std::string out;
  for (const std::string& line : split_lines(mpirun_words)) {
    if (most == 0) break;
    if (line.find_first_not_of("- \t\r") == std::string::npos) continue;
    if (!out.empty()) out += ' ';
    out += printable(line, 200);
    --most;
  }
  return out;
}

}  // namespace kinora::comm
