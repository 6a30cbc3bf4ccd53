#include "kinora/base/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <type_traits>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

TEST(Json, AcceptsWhatTheStandardAccepts) {
  const Json json =
      parse_json(R"( {"a": [1, -2, 2.5e3, true, null, "x\u00fc\ud83d\ude00\n"], "b": {"c": {}}} )", {}, "t");
  EXPECT_EQ(json, Json::parse(R"({"a": [1, -2, 2500.0, true, null, "x\u00fc\ud83d\ude00\n"], "b": {"c": {}}})"));
  EXPECT_EQ(parse_json("[[1,2],[3,[4]],{\"a\":[5]}]", {}, "t").dump(), "[[1,2],[3,[4]],{\"a\":[5]}]");
  EXPECT_EQ(parse_json("7", {}, "t"), 7);
}

// reliability: one line an item of the list for JSON.
TEST(Json, RefusesEachForbiddenText) {
  using std::string;
  const std::pair<string, string> cases[] = {
      {"", "not valid JSON"},
      {string(kJsonConfigBytes + 1, ' '), "at most 1048576"},
      {nested(65), "deeper than 64"},
      {nested(100'000), "deeper than 64"},
      {R"({"a": 1, "a": 2})", "\"a\" occurs twice"},
      {R"({"x": {"a": 1, "b": 0, "a": 2}})", "\"a\" occurs twice"},
      {R"({"a": 1, "\u0061": 2})", "\"a\" occurs twice"},
      {"[NaN]", "byte"},
      {"[Infinity]", "byte"},
      {"[-Infinity]", "byte"},
      {"[1e999]", "byte"},
      {"{} {}", "byte"},
      {"{},", "byte"},
      {string("{}\0[", 4), "zero byte"},
      {string("{\"a\0b\":1}", 9), "zero byte"},
      {"[\"\xFF\"]", "UTF-8 at byte 2"},
      {"[\"\xED\xA0\x80\"]", "UTF-8"},
      {R"(["\ud800"])", "byte"},
      {R"(["\udc00"])", "byte"},
      {R"(["\ud800\u0041"])", "byte"},
      {"[1,]", "byte"},
      {"{\"a\":}", "byte"},
      {"[01]", "byte"},
      {"['a']", "byte"},
      {"/* a */ 1", "byte"},
      {"[\"a\nb\"]", "byte"},
      {"[1", "byte"},
  };
  for (const auto& [text, words] : cases) {
    try {
      parse_json(text, {}, "some.json");
      ADD_FAILURE() << "accepted: " << text.substr(0, 60);
    } catch (const DataError& error) {
      const string what = error.what();
      EXPECT_NE(what.find("some.json"), string::npos) << what;
      EXPECT_NE(what.find(words), string::npos) << what;
      EXPECT_LT(what.size(), 300U) << what;
    }
  }
  EXPECT_NO_THROW(parse_json(nested(64), {}, "t"));
}

const std::string kText = R"({"a": [1, 2.5, -3e2, "x\u00fc\n"], "b": {"c": true, "d": null}, "e": "\ud83d\ude00"})";

TEST(Json, FlippedBytesAreRefusedOrReadAsWhatTheySay) {
  std::mt19937 random(5);
  int num_read = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string text = kText;
    text[random() % text.size()] ^= static_cast<char>(1 + random() % 255);
    try {
      const Json value = parse_json(text, {}, "t");
      // The parser that is used everywhere, with its own tree: what passes the checks is read as it reads it.
      EXPECT_EQ(value, Json::parse(text)) << text;
      EXPECT_EQ(parse_json(value.dump(), {}, "t"), value) << text;
      ++num_read;
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(num_read, 0);
  EXPECT_LT(num_read, 5000);
}

TEST(Json, ManySmallValuesAreRefusedBeforeTheyFillTheMemory) {
  const auto values = [](int count) {
    std::string text = "[";
    for (int i = 1; i < count; ++i) text += i > 1 ? ",0" : "0";
    return text + "]";
  };
  EXPECT_NO_THROW(parse_json(values(1 << 16), {}, "t"));
  EXPECT_NO_THROW(parse_json(values(1 << 17), {.max_bytes = 1 << 21}, "t"));
  for (const auto& [count, max_bytes] : {std::pair{(1 << 16) + 1, 1 << 20}, {(1 << 17) + 1, 1 << 21}}) {
    try {
      parse_json(values(count), {.max_bytes = static_cast<size_t>(max_bytes)}, "t");
      ADD_FAILURE() << count;
    } catch (const DataError& error) {
      EXPECT_EQ(error.what(), concat("t: more than ", count - 1, " values"));
    }
  }
}

TEST(Json, EveryCutOfAValidTextIsRefused) {
  const std::string& text = kText;
  for (size_t size = 0; size < text.size(); ++size)
    EXPECT_THROW(parse_json(text.substr(0, size), {}, "t"), DataError) << size;
}

class Object : public testing::Test {
 protected:
  const Json json_ = parse_json(R"({"i": 7, "neg": -3, "f": 2.0, "big": 18446744073709551615, "s": "x", "b": true,
    "none": null, "ints": [1, 2], "mixed": [1, 2.5], "words": ["a", "b"], "o": {"z": 1}, "_version": "1"})",
                                {}, "t");
  const JsonObject object_{json_, "config.json"};
};

static_assert(std::is_constructible_v<JsonObject, const Json&, std::string>);
static_assert(!std::is_constructible_v<JsonObject, Json, std::string>, "it would point to what is gone");

TEST_F(Object, GivesMembersOfTheAskedType) {
  EXPECT_EQ(object_.require_int("i"), 7);
  EXPECT_EQ(object_.require_int("neg", -3, -3), -3);
  EXPECT_EQ(object_.require_number("f"), 2.0);
  EXPECT_EQ(object_.require_number("i"), 7.0);
  EXPECT_EQ(object_.require_string("s"), "x");
  EXPECT_TRUE(object_.require_bool("b"));
  EXPECT_EQ(object_.require_ints("ints"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(object_.require_numbers("mixed"), (std::vector<double>{1.0, 2.5}));
  EXPECT_EQ(object_.require_strings("words"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(object_.require_object("o").require_int("z"), 1);
  EXPECT_EQ(object_.require_array("ints").size(), 2U);
}

TEST_F(Object, FallsBackWhereAMemberIsAbsentOrNull) {
  for (const char* key : {"none", "absent"}) {
    EXPECT_FALSE(object_.has(key));
    EXPECT_EQ(object_.find(key), nullptr);
    EXPECT_EQ(object_.int_or(key, 5), 5);
    EXPECT_EQ(object_.number_or(key, 0.5), 0.5);
    EXPECT_EQ(object_.string_or(key, "d"), "d");
    EXPECT_TRUE(object_.bool_or(key, true));
    EXPECT_EQ(object_.ints_or(key, {4}), (std::vector<int64_t>{4}));
    EXPECT_EQ(object_.numbers_or(key, {0.5}), (std::vector<double>{0.5}));
    EXPECT_EQ(object_.strings_or(key, {"q"}), (std::vector<std::string>{"q"}));
    EXPECT_THROW(object_.require_int(key), DataError);
    EXPECT_THROW(object_.require_object(key), DataError);
  }
  EXPECT_EQ(object_.int_or("i", 5), 7);
  EXPECT_EQ(object_.string_or("s", "d"), "x");
}

TEST_F(Object, RefusesOtherTypesAndRangesAndNamesTheKey) {
  const auto expect_error = [](auto&& call, const std::string& words) {
    try {
      call();
      ADD_FAILURE() << "accepted, expected: " << words;
    } catch (const DataError& error) {
      EXPECT_EQ(std::string(error.what()), "config.json: " + words);
    }
  };
  expect_error([&] { object_.require_int("f"); }, "\"f\" must be an integer, found 2.0");
  expect_error([&] { object_.require_int("big"); }, "\"big\" must be an integer, found 18446744073709551615");
  expect_error([&] { object_.require_int("neg", 1, 9); }, "\"neg\" must be an integer from 1 to 9, found -3");
  expect_error([&] { object_.int_or("i", 1, 8, 9); }, "\"i\" must be an integer from 8 to 9, found 7");
  expect_error([&] { object_.require_number("s"); }, "\"s\" must be a number, found \"x\"");
  expect_error([&] { object_.bool_or("i", true); }, "\"i\" must be true or false, found 7");
  expect_error([&] { object_.require_string("o"); }, "\"o\" must be a string, found object");
  expect_error([&] { object_.require_ints("mixed"); }, "\"mixed\" must be an integer, found 2.5");
  expect_error([&] { object_.require_ints("i"); }, "\"i\" must be a list, found 7");
  expect_error([&] { object_.require_strings("ints"); }, "\"ints\" must be a list of strings, found 1");
  expect_error([&] { object_.require_int("nope"); }, "\"nope\" is missing");
  EXPECT_THROW(object_.require_object("i"), DataError);
  EXPECT_THROW(JsonObject(json_["ints"], "x"), DataError);
}

TEST(JsonObjectKeys, UnknownOnesAreWarnedOfInOneLineOrRefused) {
  const Json json = parse_json(R"({"a": 1, "b": 2, "c": 3, "_class": "X"})", {}, "t");
  const JsonObject object(json, "config.json");
  object.int_or("a", 0);
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  object.warn_unknown();
  EXPECT_THROW(object.refuse_unknown(), DataError);
  object.ignore({"b", "c"});
  object.warn_unknown();
  set_log_sink({});
  EXPECT_EQ(lines, std::vector<std::string>{"warning: config.json: not used: b, c"});
  EXPECT_NO_THROW(object.refuse_unknown());
}

TEST(JsonFile, ErrorsNameThePath) {
  const TempFolder folder;
  const std::string path = (folder / "a.json").string();
  std::ofstream(path) << "{\"a\": 1,}";
  try {
    read_json_file(path);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos);
  }
  std::ofstream(path) << "{\"a\": 1}";
  EXPECT_EQ(read_json_file(path)["a"], 1);
  EXPECT_THROW(read_json_file(path, {.max_bytes = 7}), DataError);
  EXPECT_THROW(read_json_file(path + ".missing"), UsageError);
}

}  // namespace
}  // namespace kinora
