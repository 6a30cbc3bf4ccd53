// Text to token ids for the T5 family: T5Tokenizer of transformers over a spiece.model, or the pipeline of a
// tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/text/pipeline.h"
#include "kinora/text/sentencepiece_model.h"

namespace kinora::text {

struct EncodeOptions {
  int64_t max_length = 0;  // ids at most, special ones included; 0: no limit
  int64_t pad_to = 0;      // fill up with the padding id to this length; 0: none
  bool add_eos = true;     // the special ids of the template, "</s>" at the end for T5
  bool truncate = true;    // cut what exceeds max_length; false: refuse it
};

struct Encoded {
  std::vector<int64_t> ids;
  std::vector<int64_t> attention_mask;  // 1 for ids of the text, 0 for padding
};

class Tokenizer {
 public:
  /// A text encoder's tokenizer folder. spiece.model is taken before tokenizer.json; both give the same ids in
  /// published T5 folders. tokenizer_config.json, if there, gives extra_ids (default 100, 0 when the model has its
  /// own). Throws UsageError when the folder has neither, DataError when a file is damaged or of a kind that is not
  /// supported.
  static Tokenizer load(const std::filesystem::path& folder);
  /// The T5Tokenizer of a model: its pieces, then <extra_id_N-1> .. <extra_id_0>.
  static Tokenizer t5(SentencePieceSpec spec, int64_t extra_ids = 100, std::string_view where = "spiece.model");
  explicit Tokenizer(Pipeline pipeline);

  /// Throws UsageError: text not UTF-8 or above 64 KiB; longer than max_length and not to be cut; pad_to below the
  /// length.
  Encoded encode(std::string_view text, const EncodeOptions& options = {}) const;
  std::string decode(const std::vector<int64_t>& ids) const { return pipeline_.decode(ids); }

  int64_t vocab_size() const { return pipeline_.vocab_size(); }

 private:
  Pipeline pipeline_;
  int64_t pad_id_;
};

}  // namespace kinora::text
