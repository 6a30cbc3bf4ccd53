// The parser follows html.parser of CPython 3.11 with separate references, in its two passes: one that stops at a
// construct the end of the text cuts short, and one that takes the rest as text.
#include <algorithm>
#include <array>

#include "kinora/base/error.h"
#include "kinora/text/html.h"
#include "kinora/text/html_references.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

constexpr size_t kNone = std::string_view::npos;

// Steps that may lead to nothing, some 10 ns each: markup that is never closed is read to the end of the text for each
// of its beginnings. Below 2 KiB no text takes as many.
constexpr size_t kMostWasted = size_t{1} << 22;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alnum(char c) { return is_digit(c) || is_letter(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F); }

template <size_t N>
bool is_one_of(const std::string& name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
constexpr std::array<std::string_view, 24> kVoid = {"area",    "base",   "br",     "col",     "embed",    "hr",
                                                    "img",     "input",  "keygen", "link",    "menuitem", "meta",
                                                    "param",   "source", "track",  "wbr",     "basefont", "bgsound",
                                                    "command", "frame",  "image",  "isindex", "nextid",   "spacer"};
constexpr std::array<std::string_view, 5> kHidden = {"rt", "rp", "style", "script", "template"};
constexpr std::array<std::string_view, 2> kPreformatted = {"pre", "textarea"};

class TextOfMarkup {
 public:
  explicit TextOfMarkup(std::string_view markup) : text_(markup) {}

  std::string run() {
    for (const bool end : {false, true}) pass(end);
    flush();
    return std::move(out_);
  }

 private:
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  bool starts(size_t i, std::string_view with) const {
    return text_.substr(std::min(i, text_.size())).starts_with(with);
  }
  void data(std::string_view s) {
    pending_ += s;
    has_pending_ = true;
  }

  void waste(size_t steps) {
    wasted_ += steps;
    if (wasted_ > kMostWasted) {
      throw UsageError("the prompt has broken markup that takes too long to clean",
                       "remove what looks like tags and comments without an end.");
    }
  }

  // Ends a run of text at a tag. White space alone counts as one space or line break.
  void flush(bool visible = true) {
    if (!has_pending_) return;
    const bool blank = pending_.find_first_not_of(" \n\t\f\r") == kNone;
    if (blank && preformatted_ == 0) pending_ = pending_.find('\n') != kNone ? "\n" : " ";
    if (visible && hidden_ == 0) out_ += pending_;
    pending_.clear();
    has_pending_ = false;
  }

  void pass(bool end) {
    const size_t n = text_.size();
    while (pos_ < n) {
      const size_t next = std::min(text_.find_first_of("&<", pos_), n);
      if (next > pos_) data(text_.substr(pos_, next - pos_));
      pos_ = next;
      if (pos_ == n) break;
      if (!(at(pos_) == '<' ? markup(end) : reference(end))) break;
      if (raw_) {  // inside <script> or <style>: all up to its end tag is invisible
        raw_ = false;
        const size_t close = find_raw_end();
        if (close == kNone)
          pos_ = n;
        else
          pos_ = close;
      }
    }
    if (end && pos_ < n) {
      data(text_.substr(pos_));
      pos_ = n;
    }
  }

  size_t find_raw_end() const {
    for (size_t i = text_.find("</", pos_); i != kNone; i = text_.find("</", i + 1)) {
      size_t k = i + 2;
      while (k < text_.size() && is_space(text_[k])) ++k;
      const std::string& name = open_.back();
      if (to_lower(text_.substr(k, name.size())) != name) continue;
      k += name.size();
      while (k < text_.size() && is_space(text_[k])) ++k;
      if (at(k) == '>') return i;
    }
    return kNone;
  }

  // One construct that begins with '<'. False: stop this pass.
  bool markup(bool end) {
    size_t k = kNone;
    if (is_letter(at(pos_ + 1))) {
      k = start_tag();
    } else if (starts(pos_, "</")) {
      k = end_tag();
    } else if (starts(pos_, "<!--")) {
      k = comment();
    } else if (starts(pos_, "<?")) {
      k = hide(text_.find('>', pos_ + 2), 1);
    } else if (starts(pos_, "<!")) {
      k = declaration();
    } else if (pos_ + 1 < text_.size()) {
      data("<");
      k = pos_ + 1;
    } else {
      return false;
    }
    if (k == kNone) {
      if (!end) return false;
      waste(text_.size() - pos_);
      k = text_.find('>', pos_ + 1);
      if (k == kNone) {
        k = text_.find('<', pos_ + 1);
        if (k == kNone) k = pos_ + 1;
      } else {
        ++k;
      }
      data(text_.substr(pos_, k - pos_));
    }
    pos_ = k;
    return true;
  }

  size_t hide(size_t found, size_t length) {
    if (found == kNone) return kNone;
    flush();
    return found + length;
  }

  size_t comment() {
    for (size_t i = text_.find("--", pos_ + 4); i != kNone; i = text_.find("--", i + 1)) {
      size_t k = i + 2;
      while (k < text_.size() && is_space(text_[k])) ++k;
      if (at(k) == '>') return hide(k, 1);
    }
    return kNone;
  }

  size_t declaration() {
    if (!starts(pos_, "<![")) return hide(text_.find('>', pos_ + 2), 1);
    size_t k = pos_ + 3;
    while (k < text_.size() && (is_alnum(text_[k]) || std::string_view("-_.").find(text_[k]) != kNone)) ++k;
    const std::string name = to_lower(text_.substr(pos_ + 3, k - pos_ - 3));
    if (k == text_.size()) return kNone;
    const std::array<std::string_view, 5> sections = {"temp", "cdata", "ignore", "include", "rcdata"};
    const std::array<std::string_view, 3> office = {"if", "else", "endif"};
    // The reference refuses other names; here such a construct is a comment.
    if (!is_one_of(name, sections) && !is_one_of(name, office)) return hide(text_.find('>', pos_ + 2), 1);
    const std::string_view close = is_one_of(name, sections) ? "]]>" : "]>";
    const size_t found = text_.find(close, pos_ + 3);
    if (found == kNone) return kNone;
    flush();
    const std::string_view inner = text_.substr(pos_ + 3, found - pos_ - 3);
    if (name == "cdata" && inner.substr(name.size()).starts_with('[')) {
      data(inner.substr(name.size() + 1));
      out_ += pending_;
      pending_.clear();
      has_pending_ = false;
    }
    return found + close.size();
  }

  size_t name_end(size_t i) const {
    while (i < text_.size() && std::string_view("\t\n\r\f />").find(text_[i]) == kNone && text_[i] != '\0') ++i;
    return i;
  }

  // Behind the attributes of the start tag whose name ends at `p`.
  size_t skip_attributes(size_t p) const {
    const size_t n = text_.size();
    const auto spaces = [&](size_t i) {
      while (i < n && is_space(text_[i])) ++i;
      return i;
    };
    const auto separators = [&](size_t i) {
      while (i < n && (is_space(text_[i]) || (text_[i] == '/' && at(i + 1) != '>'))) ++i;
      return i;
    };
    while (p < n && (is_space(text_[p]) || text_[p] == '/')) ++p;
    while (p < n) {
      const char before = text_[p - 1];
      if (!(before == '\'' || before == '"' || before == '/' || is_space(before))) break;
      if (text_[p] == '/' || text_[p] == '>' || is_space(text_[p])) break;
      ++p;
      while (p < n && !is_space(text_[p]) && std::string_view("/=>").find(text_[p]) == kNone) ++p;
      size_t value = spaces(p);
      if (at(value) == '=') {
        while (at(value) == '=') ++value;
        const size_t quote = spaces(value);
        if (at(quote) == '\'' || at(quote) == '"') {
          const size_t close = text_.find(text_[quote], quote + 1);
          if (close != kNone)
            p = spaces(close + 1);
          else if (quote > value)
            p = spaces(value);  // an unclosed quote after a space begins the next attribute
        } else {
          p = quote;
          while (p < n && text_[p] != '>' && !is_space(text_[p])) ++p;
          p = spaces(p);
        }
      }
      p = separators(p);
    }
    return spaces(p);
  }

  size_t start_tag() {
    const size_t name_stop = name_end(pos_ + 1);
    const size_t j = skip_attributes(name_stop);
    if (at(j) != '>') {
      // A tag that the end of the text or an unclosed quote cuts short.
      if (j >= text_.size() || is_letter(at(j)) || at(j) == '=' || at(j) == '/') {
        if (starts(j, "/>")) return open_tag(name_stop, j + 2);
        return kNone;
      }
      data(text_.substr(pos_, j - pos_));
      return j;
    }
    return open_tag(name_stop, j + 1);
  }

  size_t open_tag(size_t name_stop, size_t end) {
    flush();
    const std::string name = to_lower(text_.substr(pos_ + 1, name_stop - pos_ - 1));
    if (text_[end - 2] == '/' || is_one_of(name, kVoid)) return end;
    open_.push_back(name);
    count(name, 1);
    raw_ = name == "script" || name == "style";
    return end;
  }

  size_t end_tag() {
    if (text_.find('>', pos_ + 1) == kNone) return kNone;
    size_t start = pos_ + 2;
    size_t k = start;
    while (k < text_.size() && is_space(text_[k])) ++k;
    if (is_letter(at(k))) {  // "</ b>" counts when nothing follows the name
      size_t stop = k;
      while (stop < text_.size() && (is_alnum(text_[stop]) || std::string_view("-.:_").find(text_[stop]) != kNone))
        ++stop;
      size_t close = stop;
      while (close < text_.size() && is_space(text_[close])) ++close;
      if (at(close) == '>') return close_tag(to_lower(text_.substr(k, stop - k)), close + 1);
    }
    if (!is_letter(at(start))) {
      if (starts(pos_, "</>")) return pos_ + 3;
      return hide(text_.find('>', pos_ + 2), 1);
    }
    const size_t stop = name_end(start);
    return close_tag(to_lower(text_.substr(start, stop - start)), text_.find('>', stop) + 1);
  }

  size_t close_tag(const std::string& name, size_t end) {
    flush();
    const auto found = std::find(open_.rbegin(), open_.rend(), name);
    if (found == open_.rend()) {
      waste(open_.size());
      return end;
    }
    for (auto tag = found.base() - 1; tag != open_.end(); ++tag) count(*tag, -1);
    open_.erase(found.base() - 1, open_.end());
    return end;
  }

  void count(const std::string& name, int by) {
    if (is_one_of(name, kHidden)) hidden_ += by;
    if (is_one_of(name, kPreformatted)) preformatted_ += by;
  }

  // One '&'. False: stop this pass.
  bool reference(bool end) {
    const size_t n = text_.size();
    if (at(pos_ + 1) == '#') {
      const bool hex = at(pos_ + 2) == 'x' || at(pos_ + 2) == 'X';
      const size_t first = pos_ + (hex ? 3 : 2);
      size_t k = first;
      while (k < n && (hex ? is_hex(text_[k]) : is_digit(text_[k]))) ++k;
      if (k > first && k < n && !is_hex(text_[k])) {
        const uint32_t number = reference_number(text_.substr(pos_ + 2, k - pos_ - 2));
        std::string character;
        append_utf8(character, number == 0 ? 0xFFFD : windows_character(number));
        data(character);
        pos_ = text_[k] == ';' ? k + 1 : k;
        return true;
      }
      if (text_.find(';', pos_) != kNone) {
        data(text_.substr(pos_, 2));
        pos_ += 2;
      }
      return false;
    }
    if (is_letter(at(pos_ + 1))) {
      size_t k = pos_ + 2;
      while (k < n && (is_alnum(text_[k]) || text_[k] == '-' || text_[k] == '.')) ++k;
      while (k > pos_ + 1 && (k == n || is_alnum(text_[k]))) --k;  // the name must be followed by something else
      if (k > pos_ + 1) {
        const std::string_view name = text_.substr(pos_ + 1, k - pos_ - 1);
        const Entity* entity = find_entity(name);
        data(entity != nullptr ? entity->text : "&" + std::string(name));
        pos_ = text_[k] == ';' ? k + 1 : k;
        return true;
      }
      if (end && pos_ + 2 == n) ++pos_;  // the reference drops the '&' of a lone "&x" at the end
      return false;
    }
    if (pos_ + 1 >= n) return false;
    data("&");
    ++pos_;
    return true;
  }

  std::string_view text_;
  size_t pos_ = 0;
  std::string out_;
  std::string pending_;
  bool has_pending_ = false;
  bool raw_ = false;
  std::vector<std::string> open_;  // tags, outermost first
  int hidden_ = 0;                 // of the open tags, how many are of a kind
  int preformatted_ = 0;
  size_t wasted_ = 0;
};

}  // namespace

std::string html_text(std::string_view markup) { return TextOfMarkup(markup).run(); }

}  // namespace kinora::text
