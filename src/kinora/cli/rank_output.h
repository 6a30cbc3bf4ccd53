// What ranks write, brought to our own streams: rank 0's lines as they are, those of others with "rank N: " in front.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "kinora/comm/launcher.h"

namespace kinora::cli {

class RankOutput {
 public:
  /// `is_terminal`: our standard error is one, and rank 0's progress rewrites its line there.
  explicit RankOutput(bool is_terminal) : is_terminal_(is_terminal) {}

  /// What mpirun --tag-output wrote on standard output (stream 0) or standard error (1).
  void add(int stream, std::string_view bytes);
  void finish();

  const std::string& mpirun_words() const { return mpirun_words_; }
  /// The first rank that mpirun reports not to have ended well; -1: none.
  int failed_rank() const { return failed_rank_; }
  /// Whether a rank has told what is wrong, as this program does.
  bool has_spoken() const { return speaker_ >= 0; }
  /// Our standard output takes no more.
  bool is_broken() const { return is_broken_; }
  /// Of this rank, or where nobody knows which (-1) of the one that wrote last. Empty when there are none.
  std::string last_words(int rank) const;

 private:
  void take(int stream, int rank, std::string_view text);
  void take_line_of_mpirun(const std::string& line);
  bool is_told_by_another(int rank, const std::string& line);
  bool passes_at_once(int stream, int rank) const;
  void show(int stream, int rank, const std::string& line, const char* end);
  void remember(int rank, const std::string& line);
  void end_open_line();
  void write(int stream, std::string_view text);

  bool is_terminal_;
  std::array<comm::TaggedOutput, 2> tagged_;
  std::map<std::pair<int, int>, std::string> open_;  // by stream and rank
  std::map<int, std::deque<std::string>> last_;
  int last_rank_ = -1, speaker_ = -1, repeating_ = -1, failed_rank_ = -1;
  std::string mpirun_words_;
  bool is_line_open_ = false, is_broken_ = false;
};

}  // namespace kinora::cli
