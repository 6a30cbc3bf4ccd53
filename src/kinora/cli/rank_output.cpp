#include "kinora/cli/rank_output.h"

#include <unistd.h>

#include <cerrno>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::cli {
namespace {

constexpr size_t kMostMpirunBytes = 64 << 10;
constexpr size_t kLastLines = 3;

}  // namespace

void RankOutput::add(int stream, std::string_view bytes) {
  tagged_[static_cast<size_t>(stream)].add(bytes, [&](int rank, std::string_view text) { take(stream, rank, text); });
}

void RankOutput::finish() {
  for (int stream : {0, 1}) {
    tagged_[static_cast<size_t>(stream)].finish([&](int rank, std::string_view text) { take(stream, rank, text); });
  }
  for (auto& [key, line] : open_) {
    if (key.second < 0)
      take_line_of_mpirun(line);
    else if (!line.empty() && !passes_at_once(key.first, key.second))
      show(key.first, key.second, line, "");
  }
  end_open_line();
}

std::string RankOutput::last_words(int rank) const {
  const auto found = last_.find(rank < 0 ? last_rank_ : rank);
  if (found == last_.end()) return {};
  std::string out = concat("the last words of rank ", found->first, ":");
  for (size_t i = 0; i < found->second.size(); ++i) out += (i > 0 ? " / " : " ") + found->second[i];
  return out;
}

void RankOutput::take(int stream, int rank, std::string_view text) {
  if (passes_at_once(stream, rank)) {
    write(stream, text);
    is_line_open_ = text.back() != '\n';
  }
  std::string& line = open_[{stream, rank}];
  for (const char c : text) {
    if (c != '\n' && c != '\r') {
      line += c;
      continue;
    }
    if (rank < 0) {
      take_line_of_mpirun(line);
      line.clear();
      continue;
    }
    const bool is_told = stream == 1 && is_told_by_another(rank, line);
    if (!is_told && !passes_at_once(stream, rank) && (rank == 0 || !line.empty())) show(stream, rank, line, "\n");
    if (stream == 1 && !line.empty()) remember(rank, line);
    line.clear();
  }
}

void RankOutput::take_line_of_mpirun(const std::string& line) {
  if (const auto failed = comm::read_state(line)) {
    if (failed_rank_ < 0) failed_rank_ = *failed;
  } else if (mpirun_words_.size() < kMostMpirunBytes) {
    mpirun_words_ += line + "\n";
  }
}

/// Ranks of one host settle who speaks; the first of another host has nobody to ask.
bool RankOutput::is_told_by_another(int rank, const std::string& line) {
  if (line.starts_with("kinora: ") && speaker_ < 0) speaker_ = rank;
  const bool is_error = line.starts_with("kinora: ") || (line.starts_with("  ") && rank == repeating_);  // and its hint
  repeating_ = is_error && rank != speaker_ ? rank : -1;
  return repeating_ == rank;
}

/// Rank 0's progress on a terminal has no line ends.
bool RankOutput::passes_at_once(int stream, int rank) const { return rank == 0 && stream == 1 && is_terminal_; }

void RankOutput::show(int stream, int rank, const std::string& line, const char* end) {
  end_open_line();
  write(stream, rank == 0 ? line + end : concat("rank ", rank, ": ", line, "\n"));
}

void RankOutput::remember(int rank, const std::string& line) {
  last_rank_ = rank;
  auto& lines = last_[rank];
  lines.push_back(printable(line, 200));
  if (lines.size() > kLastLines) lines.pop_front();
}

void RankOutput::end_open_line() {
  if (is_line_open_) write(1, "\r\x1b[K");
  is_line_open_ = false;
}

void RankOutput::write(int stream, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(stream + 1, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      is_broken_ = is_broken_ || stream == 0;
      return;
    }
    text.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace kinora::cli
