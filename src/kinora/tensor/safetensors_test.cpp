#include "kinora/tensor/safetensors.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/test_asan.h"
#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> as_span(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

std::string length_bytes(uint64_t length) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>((length >> (8 * i)) & 0xFF);
  return out;
}

// A file of the given header and `data` zero bytes.
std::string file_of(const std::string& header, size_t data) {
  return length_bytes(header.size()) + header + std::string(data, '\0');
}

SafetensorsHeader parse(const std::string& file) { return parse_safetensors_header(as_span(file), file.size(), "'x'"); }

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("a":{"data_offsets":[24,26],"shape":[],"dtype":"BF16"},"e":{"dtype":"I8","shape":[0,7],"data_offsets":[26,26]}}  )";

TEST(SafetensorsHeaderTest, OfAValidFileIsReadInTheOrderOfItsData) {
  const SafetensorsHeader header = parse(file_of(kGood, 26));
  EXPECT_EQ(header.metadata, (Metadata{{"format", "pt"}}));
  EXPECT_EQ(header.data_begin, 8 + kGood.size());
  ASSERT_EQ(header.tensors.size(), 3U);
  EXPECT_EQ(header.tensors[0], (TensorEntry{"b", DType::F32, {2, 3}, 0, 24}));
  EXPECT_EQ(header.tensors[1], (TensorEntry{"a", DType::BF16, {}, 24, 26}));
  EXPECT_EQ(header.tensors[2], (TensorEntry{"e", DType::I8, {0, 7}, 26, 26}));
  EXPECT_EQ(header.tensors[0].num_elements(), 6U);
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  EXPECT_TRUE(parse(file_of("{\"__metadata__\":{}}", 0)).tensors.empty());
}

// "0":"","1":"" and so on.
std::string many_pairs(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += (i ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
  return out;
}

std::string many_tensors(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += (i ? ",\"" : "\"") + std::to_string(i) + "\":" + entry("U8", "[0]", "[0,0]");
  return out;
}

struct BadFile {
  std::string item;  // of the list of checks
  std::string file;
  std::string words;  // expected in the message
};

std::vector<BadFile> bad_files() {
  const auto one = [](const std::string& body, size_t data) { return file_of("{\"t\":" + body + "}", data); };
  const std::string ok = entry("F32", "[1]", "[0,4]");
  std::vector<BadFile> out = {
      {"1 empty", "", "at least 8"},
      {"1 seven bytes", std::string(7, '\0'), "at least 8"},
      {"2 length 0", length_bytes(0) + "{}", "a header of 0 bytes"},
      {"2 length 1", length_bytes(1) + "{}", "a header of 1 bytes"},
      {"2 length above the limit", length_bytes(100'000'001) + "{}", "2 to 100000000"},
      {"3 header longer than the file", length_bytes(3) + "{}", "in a file of 10"},
      {"3 length wraps", length_bytes(~uint64_t{0} - 7) + "{}", "2 to 100000000"},
      {"4 invalid UTF-8", file_of("{\"t\xFF\":" + ok + "}", 4), "UTF-8 at byte 3"},
      {"4 surrogate", file_of("{\"\xED\xA0\x80\":" + ok + "}", 4), "UTF-8"},
      {"5 begins with a space", file_of(" {}", 0), "begin with '{'"},
      {"5 begins with a byte order mark", file_of("\xEF\xBB\xBF{}", 0), "begin with '{'"},
      {"5 ends with a line end", file_of("{}\n", 0), "bytes behind its JSON"},
      {"5 ends with zero bytes", file_of(std::string("{}\0\0", 4), 0), "bytes behind its JSON"},
      {"5 zero byte inside", file_of(std::string("{}\0}", 4), 0), "zero byte"},
      {"5 two values", file_of("{}{}", 0), "not valid JSON"},
      {"6 a list", file_of("[{}]", 0), "begin with '{'"},
      {"6 entry is a number", one("3", 0), "\"t\" is the number 3"},
      {"6 entry is a list", one("[]", 0), "\"t\" is a list"},
      {"6 entry is null", one("null", 0), "\"t\" is null"},
      {"6 no dtype", one(R"({"shape":[1],"data_offsets":[0,4]})", 4), "has no dtype"},
      {"6 no shape", one(R"({"dtype":"F32","data_offsets":[0,4]})", 4), "has no shape"},
      {"6 no offsets", one(R"({"dtype":"F32","shape":[1]})", 4), "has no data_offsets"},
      {"6 another field", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})", 4), "unknown field \"x\""},
      {"6 deep", one("{\"dtype\":{\"a\":1}}", 0), "an object as its dtype"},
      {"6 very deep", file_of("{\"t\":" + std::string(100'000, '['), 0), "bytes behind its JSON"},
      {"6 very deep, closed", one(std::string(50'000, '[') + std::string(50'000, ']'), 0), "is a list"},
      {"7 unknown dtype", one(entry("C64", "[1]", "[0,8]"), 8), "unknown dtype 'C64'"},
      {"7 dtype is a number", one(R"({"dtype":3,"shape":[1],"data_offsets":[0,4]})", 4), "the number 3 as its dtype"},
      {"8 negative", one(entry("F32", "[-1]", "[0,4]"), 4), "the number -1 in its shape"},
      {"8 float", one(entry("F32", "[1.0]", "[0,4]"), 4), "the number 1.0 in its shape"},
      {"8 string", one(entry("F32", "[\"1\"]", "[0,4]"), 4), "a string in its shape"},
      {"8 above 2^48", one(entry("U8", "[281474976710657]", "[0,4]"), 4), "at most 2^48"},
      {"8 above 64 bits", one(entry("U8", "[99999999999999999999]", "[0,4]"), 4), "in its shape"},
      {"8 rank 9", one(entry("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1), "more than 8 dimensions"},
      {"8 shape is a number", one(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4), "as its shape"},
      {"9 product wraps to 0", one(entry("U8", "[4294967296,4294967296]", "[0,0]"), 0), "larger than any file"},
      {"9 bytes wrap", one(entry("F64", "[1073741824,2147483648]", "[0,0]"), 0), "larger than any file"},
      {"9 wraps although empty", one(entry("U8", "[4294967296,4294967296,0]", "[0,0]"), 0), "larger than any file"},
      {"10 one offset", one(entry("F32", "[1]", "[4]"), 4), "1 data_offsets instead of two"},
      {"10 three offsets", one(entry("F32", "[1]", "[0,4,4]"), 4), "more than two"},
      {"10 negative offset", one(entry("F32", "[1]", "[-4,0]"), 4), "in its data_offsets"},
      {"10 float offset", one(entry("F32", "[1]", "[0,4.0]"), 4), "in its data_offsets"},
      {"10 end before begin", one(entry("F32", "[1]", "[4,0]"), 4), "end before they begin"},
      {"10 too few bytes", one(entry("F32", "[2]", "[0,4]"), 4), "needs 8 bytes but data_offsets [0, 4] give 4"},
      {"10 too many bytes", one(entry("F32", "[1]", "[0,8]"), 8), "needs 4 bytes but"},
      {"10 behind the file", one(entry("F32", "[2]", "[0,8]"), 4), "the file holds 4 bytes"},
      {"10 offsets near 2^64", one(entry("F32", "[1]", "[18446744073709551612,18446744073709551615]"), 4), "give 3"},
      {"11 first is not 0", one(entry("F32", "[1]", "[4,8]"), 8), "expected 0 (a gap)"},
      {"11 gap", file_of("{\"a\":" + ok + ",\"b\":" + entry("F32", "[1]", "[8,12]") + "}", 12), "expected 4 (a gap)"},
      {"11 overlap", file_of("{\"a\":" + ok + ",\"b\":" + entry("F32", "[1]", "[2,6]") + "}", 6), "tensors overlap"},
      {"11 same bytes", file_of("{\"a\":" + ok + ",\"b\":" + ok + "}", 4), "tensors overlap"},
      {"11 bytes left over", one(ok, 5), "5 bytes of data, but the tensors fill 4"},
      {"11 data without tensors", file_of("{}", 1), "the tensors fill 0"},
      {"12 name twice", file_of("{\"a\":" + ok + ",\"a\":" + entry("F32", "[1]", "[4,8]") + "}", 8),
       "\"a\" occurs twice"},
      {"12 name twice, escaped", file_of("{\"a\":" + ok + ",\"\\u0061\":" + ok + "}", 4), "\"a\" occurs twice"},
      {"12 field twice", one(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})", 4), "dtype twice"},
      {"12 metadata key twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0), "twice in __metadata__"},
      {"12 metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "occurs twice"},
      {"13 metadata number", file_of(R"({"__metadata__":{"k":1}})", 0), "instead of a string"},
      {"13 metadata nested", file_of(R"({"__metadata__":{"k":{}}})", 0), "instead of a string"},
      {"13 metadata is a string", file_of(R"({"__metadata__":"x"})", 0), "is a string instead of an object"},
      {"13 metadata too large", file_of("{\"__metadata__\":{\"k\":\"" + std::string(1 << 20, 'x') + "\"}}", 0),
       "1 MiB"},
      {"13 too many entries", file_of("{\"__metadata__\":{" + many_pairs(10'001) + "}}", 0), "more than 10000 entries"},
      {"14 long name", file_of("{\"" + std::string(513, 'n') + "\":" + ok + "}", 4), "longer than 512"},
      {"14 control character", file_of("{\"a\\u001b[2J\":" + ok + "}", 4), "control characters"},
      {"14 C1 control character", file_of("{\"a\u009b2J\":" + ok + "}", 4), "control characters"},
      {"14 escaped C1 control character", file_of("{\"a\\u009b2J\":" + ok + "}", 4), "control characters"},
      {"14 raw control character", file_of("{\"a\nb\":" + ok + "}", 4), "not valid JSON"},
      {"- not a number", one(entry("F32", "[NaN]", "[0,4]"), 4), "not valid JSON"},
      {"- lone surrogate", file_of(R"({"\ud800":1})", 0), "not valid JSON"},
  };
  out.push_back({"14 too many tensors", file_of("{" + many_tensors(100'001) + "}", 0), "more than 100000 tensors"});
  // The file would be larger than its header says, so it is the header's own fault that is found.
  const std::string large(2 << 20, '1');
  for (const std::string& header :
       {"{\"" + large + "\":1}", "{" + std::string(2 << 20, ' ') + "\"a\":1}", "{\"a\":{\"shape\":[" + large + "1]}}",
        "{\"" + std::string(1 << 20, '\\') + "\\\"" + large + "\":1}"}) {
    out.push_back({"- long token", file_of(header, 0), "more than 2 MiB"});
  }
  return out;
}

TEST(SafetensorsHeaderTest, EachBadFileGivesItsErrorAndNoneIsAccepted) {
  for (const BadFile& bad : bad_files()) {
    try {
      parse(bad.file);
      ADD_FAILURE() << "accepted: " << bad.item;
    } catch (const DataError& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.rfind("'x': ", 0), 0U) << bad.item << ": " << what;
      EXPECT_NE(what.find(bad.words), std::string::npos) << bad.item << ": " << what;
      EXPECT_LT(what.size(), 800U) << bad.item;
      EXPECT_FALSE(error.hint().empty()) << bad.item;
    }
  }
}

TEST(SafetensorsHeaderTest, WhatIsAtEachLimitIsRead) {
  const auto read = [](const std::string& header, size_t data) { return parse(file_of("{" + header + "}", data)); };
  EXPECT_EQ(read(many_tensors(100'000), 0).tensors.size(), 100'000U);
  EXPECT_EQ(read("\"" + std::string(512, 'n') + "\":" + entry("U8", "[1,1,1,1,1,1,1,3]", "[0,3]"), 3).tensors.size(),
            1U);
  EXPECT_EQ(read("\"t\":" + entry("U8", "[281474976710656,0]", "[0,0]"), 0).tensors[0].shape[0], int64_t{1} << 48);
  EXPECT_EQ(read("\"__metadata__\":{\"k\":\"" + std::string((1 << 20) - 1, 'x') + "\"}", 0).metadata.size(), 1U);
  EXPECT_EQ(read("\"__metadata__\":{" + many_pairs(10'000) + "}", 0).metadata.size(), 10'000U);
}

// Headers of the sizes at which something else than the header could take the memory.
std::vector<std::pair<std::string, std::string>> large_headers() {
  const std::string large(size_t{24} << 20, '1');
  const std::string unknown = ",\"z\":" + entry("C64", "[1]", "[0,8]") + "}";
  std::string named = "{", twice = "{";
  for (int i = 0; i < 50'000; ++i) {
    named +=
        (i ? "," : "") + std::string("\"blocks.") + std::to_string(i) + ".weight\":" + entry("U8", "[0,1]", "[0,0]");
    twice += (i ? "," : "") + std::string("\"a\":") + entry("U8", "[0]", "[0,0]");
  }
  return {{"unknown dtype behind many tensors", named + unknown},
          {"as many tensors as there may be", "{" + many_tensors(99'999) + unknown},
          {"too many tensors", "{" + many_tensors(200'000) + "}"},
          {"one name again and again", twice + "}"},
          {"one name twice among many", "{" + many_tensors(99'999) + ",\"7\":" + entry("U8", "[0]", "[0,0]") + "}"},
          {"many small pieces of metadata", "{\"__metadata__\":{" + many_pairs(150'000) + "}}"},
          {"a long name", "{\"" + large + "\":1}"},
          {"a long piece of metadata", "{\"__metadata__\":{\"k\":\"" + large + "\"}}"},
          {"a long number", "{\"t\":{\"shape\":[" + large + "]}}"},
          {"a long gap", "{" + std::string(large.size(), ' ') + "\"t\":1}"},
          {"deep nesting", "{\"t\":" + std::string(large.size(), '[') + "}"}};
}

TEST(SafetensorsHeaderTest, ARefusedFileTakesNoMoreMemoryThanItsHeaderAnd8MiB) {
  if (kIsAsan || !reset_peak_resident()) GTEST_SKIP() << "the peak cannot be measured here";
  const TempFolder folder;
  for (const auto& [what, header] : large_headers()) {
    std::ofstream(folder / "x", std::ios::binary) << file_of(header, 0);
    ::malloc_trim(0);
    ASSERT_TRUE(reset_peak_resident());
    const uint64_t before = resident_bytes();
    EXPECT_THROW(SafetensorsFile{folder / "x"}, DataError) << what;
    const uint64_t more = std::max(peak_resident_bytes(), before) - before;
    EXPECT_LE(more, header.size() + (8 << 20)) << what;
  }
}

TEST(SafetensorsHeaderTest, EveryCutIsRefused) {
  const std::string file = file_of(kGood, 26);
  std::mt19937 random(7);
  for (size_t size = 0; size < file.size(); ++size) EXPECT_THROW(parse(file.substr(0, size)), DataError) << size;
  const std::string large = file_of("{\"t\":" + entry("U8", "[100000]", "[0,100000]") + "}", 100'000);
  for (int i = 0; i < 200; ++i) {
    const size_t size = large.size() - 1 - random() % 100'000;
    EXPECT_THROW(parse(large.substr(0, size)), DataError) << size;
  }
}

TEST(SafetensorsHeaderTest, FlippedBytesGiveAnErrorOrAHeaderThatHolds) {
  const std::string good = file_of(kGood, 26);
  std::mt19937 random(11);
  int num_read = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string file = good;
    file[random() % (8 + kGood.size())] ^= static_cast<char>(1 + random() % 255);
    if (random() % 4 == 0) file[random() % (8 + kGood.size())] = static_cast<char>(random());
    try {
      const SafetensorsHeader header = parse(file);
      uint64_t at = 0;
      for (const TensorEntry& tensor : header.tensors) {
        uint64_t bytes = 0;
        ASSERT_TRUE(tensor_num_bytes(tensor.shape, tensor.dtype, bytes));
        ASSERT_EQ(tensor.begin, at);
        ASSERT_EQ(bytes, tensor.num_bytes());
        at = tensor.end;
      }
      ASSERT_EQ(at + header.data_begin, file.size());
      ++num_read;  // a name or a metadata value was changed
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(num_read, 0);
  EXPECT_LT(num_read, 5000);
}

class Safetensors : public testing::Test {
 protected:
  const TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

TEST_F(Safetensors, WhatIsWrittenIsReadBack) {
  const std::string a(24, 'a');
  const std::string b("\x01\x02", 2);
  const TensorBytes tensors[] = {{"w.a", DType::F32, {2, 3}, as_span(a)},
                                 {"quote\"\\ \xC3\xBC", DType::BF16, {}, as_span(b)},
                                 {"none", DType::I64, {3, 0}, {}}};
  write_safetensors(folder_ / "x.safetensors", tensors, {{"format", "pt"}, {"k", "v\n"}});
  const SafetensorsFile file(folder_ / "x.safetensors");
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"k", "v\n"}}));
  ASSERT_EQ(file.tensors().size(), 3U);
  for (const TensorBytes& want : tensors) {
    const TensorEntry* got = file.find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(got->shape, want.shape);
    EXPECT_TRUE(std::ranges::equal(file.bytes(*got), want.bytes));
  }
  EXPECT_EQ(file.find("w.b"), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.bytes(*file.find("w.a")).data()) % 8, 0U);
  EXPECT_NO_THROW(file.check_unchanged());
}

TEST_F(Safetensors, AFileCutWhileItIsOpenIsNoticed) {
  const std::string bytes(100'000, 'x');
  write_safetensors(folder_ / "x", std::vector<TensorBytes>{{"t", DType::U8, {100'000}, as_span(bytes)}});
  const SafetensorsFile file(folder_ / "x");
  fs::resize_file(folder_ / "x", 5000);
  EXPECT_THROW(file.check_unchanged(), DataError);
  EXPECT_THROW(SafetensorsFile(folder_ / "x"), DataError);
}

TEST_F(Safetensors, ErrorsNameTheFile) {
  std::ofstream(folder_ / "bad.safetensors") << "PK\x03\x04 not this format at all";
  try {
    SafetensorsFile file(folder_ / "bad.safetensors");
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("bad.safetensors"), std::string::npos);
  }
  EXPECT_THROW(SafetensorsFile(folder_ / "missing"), UsageError);
  EXPECT_THROW(SafetensorsFile{folder_}, UsageError);
}

TEST_F(Safetensors, TheWriterRefusesWhatTheReaderWould) {
  const auto write = [&](std::vector<TensorBytes> tensors, Metadata metadata = {}) {
    write_safetensors(folder_ / "x", tensors, metadata);
  };
  const std::string four(4, 'x');
  const TensorBytes ok{"t", DType::F32, {1}, as_span(four)};
  EXPECT_THROW(write({ok, ok}), UsageError);
  EXPECT_THROW(write({{"t", DType::F32, {2}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{"t", DType::F32, {-1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{"t", DType::U8, {int64_t{1} << 40, int64_t{1} << 40}, {}}}), UsageError);
  EXPECT_THROW(write({{"t", DType::U8, {1, 1, 1, 1, 1, 1, 1, 4, 1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{"a\n", DType::F32, {1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{"\xFF", DType::F32, {1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{"__metadata__", DType::F32, {1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({{std::string(513, 'x'), DType::F32, {1}, as_span(four)}}), UsageError);
  EXPECT_THROW(write({ok}, {{"k", std::string(1 << 20, 'x')}}), UsageError);
  EXPECT_THROW(write({ok}, {{"k", std::string(1 << 19, '\1')}}), UsageError);  // six bytes each in JSON
  Metadata many;
  for (int i = 0; i <= 10'000; ++i) many.emplace(std::to_string(i), "");
  EXPECT_THROW(write({ok}, many), UsageError);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Safetensors, AFileThatTheDiskHasNoRoomForIsRefusedBeforeItsData) {
  const std::vector<SafetensorsWriter::Spec> specs = {{"a", DType::U8, {int64_t{1} << 48, 1 << 10}}};
  EXPECT_THROW(SafetensorsWriter(folder_ / "x", specs), ResourceError);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Safetensors, TheWriterTakesPiecesAndWantsAllOfThem) {
  const std::vector<SafetensorsWriter::Spec> specs = {{"a", DType::U8, {3}}, {"b", DType::I16, {1}}};
  {
    SafetensorsWriter writer(folder_ / "x", specs);
    writer.write(as_span("1234"));
    EXPECT_THROW(writer.commit(), UsageError);
    EXPECT_THROW(writer.write(as_span("56")), UsageError);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
  SafetensorsWriter writer(folder_ / "x", specs);
  writer.write(as_span("12"));
  writer.write(as_span("345"));
  writer.commit();
  EXPECT_EQ(fs::file_size(folder_ / "x"), writer.file_bytes());
  const SafetensorsFile file(folder_ / "x");
  EXPECT_TRUE(std::ranges::equal(file.bytes(*file.find("b")), as_span("45")));
}

TEST(TensorNumBytes, RefusesOverflowAndNegativeSizes) {
  uint64_t bytes = 0;
  EXPECT_TRUE(tensor_num_bytes(std::vector<int64_t>{3, 5}, DType::F32, bytes));
  EXPECT_EQ(bytes, 60U);
  EXPECT_TRUE(tensor_num_bytes({}, DType::F64, bytes));
  EXPECT_EQ(bytes, 8U);
  EXPECT_FALSE(tensor_num_bytes(std::vector<int64_t>{int64_t{1} << 32, int64_t{1} << 31}, DType::U8, bytes));
  EXPECT_FALSE(tensor_num_bytes(std::vector<int64_t>{-1}, DType::U8, bytes));
  EXPECT_EQ(shape_text(std::vector<int64_t>{2, 3}), "[2, 3]");
  EXPECT_EQ(shape_text({}), "[]");
}

}  // namespace
}  // namespace kinora
