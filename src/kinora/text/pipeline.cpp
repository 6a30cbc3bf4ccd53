#include "kinora/text/pipeline.h"

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::text {
namespace {

// A part of the text on its way through the pipeline.
struct Part {
  std::string text;
  bool first = false;  // begins where the whole text begins
  int64_t id = -1;     // an added token, already done
};

size_t last_character(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

bool touches_word(std::string_view before, std::string_view after) {
  return (!before.empty() && is_word(first_code_point(before.substr(last_character(before))))) ||
         (!after.empty() && is_word(first_code_point(after)));
}

size_t white_start(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && is_white_space(first_code_point(text.substr(at)))) at += utf8_length(text[at]);
  return at;
}

// Where the white space at the end of `text` begins.
size_t white_end(std::string_view text) {
  while (!text.empty()) {
    const size_t start = last_character(text);
    if (!is_white_space(first_code_point(text.substr(start)))) break;
    text = text.substr(0, start);
  }
  return text.size();
}

// Cuts `text` at the leftmost, longest candidates.
void cut_added(const Pipeline::Candidates& candidates, const std::vector<AddedToken>& added, std::string_view text,
               bool first, std::vector<Part>& parts) {
  size_t done = 0;
  const auto plain = [&](size_t begin, size_t end) {
    if (begin < end) parts.push_back({std::string(text.substr(begin, end - begin)), first && begin == 0});
  };
  for (size_t at = 0; at < text.size();) {
    const auto found = candidates.texts.longest(text.substr(at));
    if (!found) {
      ++at;
      continue;
    }
    const AddedToken& token = added[candidates.tokens[*found]];
    size_t begin = at;
    size_t end = at + candidates.texts.size_of(*found);
    at = end;
    if (token.single_word && touches_word(text.substr(0, begin), text.substr(end))) continue;
    if (token.lstrip) begin = std::max(white_end(text.substr(0, begin)), done);
    if (token.rstrip) end += white_start(text.substr(end));
    plain(done, begin);
    parts.push_back({{}, false, token.id});
    done = at = end;
  }
  plain(done, text.size());
}

std::string apply(const CharsMap& map, std::string text) { return map.rewrite(text); }

std::string apply(const StripEnds& ends, std::string text) {
  std::string_view view = text;
  if (ends.left) view.remove_prefix(white_start(view));
  if (ends.right) view = view.substr(0, white_end(view));
  return std::string(view);
}

std::string apply(const ReplaceText& rule, std::string text) {
  return replace_all(std::move(text), rule.from, rule.to);
}

std::string apply(const ReplaceSpaces& rule, std::string text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && text[end] == ' ') ++end;
    if (end - at >= 2) {
      out += rule.to;
      at = end;
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::string apply(const PrependText& rule, std::string text) { return text.empty() ? text : rule.text + text; }

std::string apply(NormalForm form, std::string text) { return text::normalize(text, form); }

std::string run_normalizers(const std::vector<Normalizer>& normalizers, std::string text) {
  for (const auto& step : normalizers) {
    text = std::visit([&](const auto& n) { return apply(n, std::move(text)); }, step);
  }
  return text;
}

void cut(const WhitespaceSplit&, const Part& part, std::vector<Part>& out) {
  std::string_view text = part.text;
  for (size_t at = 0; at < text.size();) {
    at += white_start(text.substr(at));
    size_t end = at;
    while (end < text.size() && !is_white_space(first_code_point(text.substr(end)))) end += utf8_length(text[end]);
    if (at < end) out.push_back({std::string(text.substr(at, end - at)), part.first && at == 0});
    at = end;
  }
}

void cut(const Metaspace& rule, const Part& part, std::vector<Part>& out) {
  std::string text = replace_all(part.text, " ", rule.replacement);
  const bool wants =
      rule.prepend == Metaspace::Prepend::kAlways || (rule.prepend == Metaspace::Prepend::kFirst && part.first);
  if (wants && !text.empty() && !text.starts_with(rule.replacement)) text.insert(0, rule.replacement);
  if (!rule.split) {
    if (!text.empty()) out.push_back({std::move(text), part.first});
    return;
  }
  // Every replacement begins a word.
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(rule.replacement, begin + 1), text.size());
    out.push_back({text.substr(begin, end - begin), part.first && begin == 0});
    begin = end;
  }
}

void cut_at(const std::vector<size_t>& ends, const Part& part, std::vector<Part>& out) {
  size_t begin = 0;
  for (const size_t end : ends) {
    out.push_back({part.text.substr(begin, end - begin), part.first && begin == 0});
    begin = end;
  }
}

void cut(const SplitByPattern& rule, const Part& part, std::vector<Part>& out) {
  cut_at(rule.pattern.ends(part.text), part, out);
}

void cut(const ByteLevel& rule, const Part& part, std::vector<Part>& out) {
  Part whole = part;
  if (rule.add_prefix_space && !whole.text.starts_with(' ')) whole.text.insert(0, " ");
  std::vector<Part> words;
  rule.pattern ? cut_at(rule.pattern->ends(whole.text), whole, words) : words.push_back(std::move(whole));
  for (Part& word : words) out.push_back({bytes_as_characters(word.text), word.first});
}

// Neighbouring unknown characters are one token, which byte fallback spells out if it can.
void encode_word(const Unigram& unigram, bool byte_fallback, std::string_view word, std::vector<int64_t>& ids) {
  const auto cuts = unigram.best_cut(word);
  for (size_t i = 0; i < cuts.size(); ++i) {
    if (cuts[i].id != unigram.unk_id()) {
      ids.push_back(cuts[i].id);
      continue;
    }
    const size_t begin = cuts[i].begin;
    while (i + 1 < cuts.size() && cuts[i + 1].id == unigram.unk_id()) ++i;
    const std::string_view run = word.substr(begin, cuts[i].end - begin);
    const int64_t known = unigram.find(run);  // the joined run may be a piece that lost to its parts
    const auto& bytes = unigram.byte_ids();
    const bool spells = byte_fallback && std::all_of(run.begin(), run.end(),
                                                     [&](char c) { return bytes[static_cast<unsigned char>(c)] >= 0; });
    if (known >= 0 || !spells) {
      ids.push_back(known >= 0 ? known : unigram.unk_id());
      continue;
    }
    for (const char c : run) ids.push_back(bytes[static_cast<unsigned char>(c)]);
  }
}

void encode_word(const PipelineParts& pipeline, std::string_view word, std::vector<int64_t>& ids) {
  if (const auto* bpe = std::get_if<Bpe>(&pipeline.model)) return bpe->encode(word, ids);
  encode_word(std::get<Unigram>(pipeline.model), pipeline.byte_fallback, word, ids);
}

const std::string& text_of(const SubwordModel& model, int64_t id) {
  if (const auto* bpe = std::get_if<Bpe>(&model)) return bpe->text_of(id);
  return std::get<Unigram>(model).piece(id).text;
}

const std::array<int64_t, 256>& byte_ids_of(const SubwordModel& model) {
  return std::visit(
      [](const auto& m) -> const auto& { return m.byte_ids(); }, model);
}

}  // namespace

int64_t size_of(const SubwordModel& model) {
  return std::visit([](const auto& m) { return m.size(); }, model);
}

int64_t find_piece(const SubwordModel& model, std::string_view text) {
  return std::visit([&](const auto& m) { return m.find(text); }, model);
}

int64_t PipelineParts::vocab_size() const {
  int64_t size = size_of(model);
  for (const AddedToken& token : added) size = std::max(size, token.id + 1);
  return size;
}

Pipeline::Pipeline(PipelineParts parts) : parts_(std::move(parts)) {
  const auto candidates = [&](bool normalized) {
    std::vector<size_t> tokens;
    std::vector<std::string> texts;
    for (size_t i = 0; i < parts_.added.size(); ++i) {
      const AddedToken& token = parts_.added[i];
      if (token.normalized != normalized) continue;
      tokens.push_back(i);
      texts.push_back(normalized ? run_normalizers(parts_.normalizers, token.content) : token.content);
    }
    return Candidates{std::move(tokens), PrefixFinder(std::move(texts))};
  };
  raw_ = candidates(false);
  normalized_ = candidates(true);
}

std::vector<int64_t> Pipeline::encode(std::string_view text) const {
  check_text(text, "text");
  std::vector<Part> parts;
  cut_added(raw_, parts_.added, text, true, parts);

  std::vector<int64_t> ids;
  for (Part& part : parts) {
    std::vector<Part> words;
    if (part.id >= 0) {
      words.push_back(std::move(part));
    } else {
      const std::string plain = run_normalizers(parts_.normalizers, std::move(part.text));
      cut_added(normalized_, parts_.added, plain, part.first, words);
    }
    for (const PreTokenizer& step : parts_.pre_tokenizers) {
      std::vector<Part> finer;
      for (Part& word : words) {
        if (word.id >= 0) {
          finer.push_back(std::move(word));
        } else {
          std::visit([&](const auto& rule) { cut(rule, word, finer); }, step);
        }
      }
      words = std::move(finer);
    }
    for (const Part& word : words) {
      if (word.id >= 0) {
        ids.push_back(word.id);
      } else {
        encode_word(parts_, word.text, ids);
      }
    }
  }
  return ids;
}

std::string Pipeline::decode(const std::vector<int64_t>& ids) const {
  const std::vector<AddedToken>& added = parts_.added;
  std::string out;
  std::string bytes;
  const auto flush = [&] {
    for (size_t at = 0; at < bytes.size();) append_utf8(out, next_code_point(bytes, at));
    bytes.clear();
  };
  bool first = true;
  for (const int64_t id : ids) {
    const auto token = std::find_if(added.begin(), added.end(), [&](const AddedToken& t) { return t.id == id; });
    if (token != added.end() && token->special) continue;
    if (token == added.end() && (id < 0 || id >= size_of(parts_.model))) {
      throw UsageError(concat("token id ", id, " is not in the vocabulary of ", vocab_size()));
    }
    std::string text = token != added.end() ? token->content : text_of(parts_.model, id);
    if (parts_.decoder == DecoderKind::kByteLevel) {
      const auto raw = token == added.end() ? characters_as_bytes(text) : std::nullopt;
      bytes += raw ? *raw : text;
      continue;
    }
    const auto& table = byte_ids_of(parts_.model);
    if (const auto byte = std::find(table.begin(), table.end(), id); parts_.byte_fallback && byte != table.end()) {
      bytes += static_cast<char>(byte - table.begin());
      continue;
    }
    flush();
    text = replace_all(std::move(text), "\xE2\x96\x81", " ");
    if (first && text.starts_with(' ')) text.erase(0, 1);
    first = false;
    out += text;
  }
  flush();
  return out;
}

int64_t Pipeline::find(std::string_view token) const {
  for (const AddedToken& a : parts_.added) {
    if (a.content == token) return a.id;
  }
  return find_piece(parts_.model, token);
}

}  // namespace kinora::text
