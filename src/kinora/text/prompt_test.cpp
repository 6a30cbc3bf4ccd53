#include "kinora/text/prompt.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/text/case_for_test.h"
#include "kinora/text/fix_text.h"
#include "kinora/text/html.h"
#include "kinora/text/prompt_cleaning.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

template <typename Clean>
void expect_cleaned(const TestCase& reference, const Json& want, Clean clean) {
  const auto texts = reference.texts();
  ASSERT_EQ(texts.size(), want.size());
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(clean(texts[i]), want[i].get<std::string>()) << texts[i];
}

TEST(PromptParity, CleaningGivesTheReferencesText) {
  const TestCase open_sora("video/prompt_clean_0");
  expect_cleaned(open_sora, open_sora.meta["outputs"]["once"]["value"], clean_open_sora_caption);
  expect_cleaned(open_sora, open_sora.meta["outputs"]["twice"]["value"], clean_open_sora);
  for (const bool caption : {true, false}) {
    const TestCase latte(caption ? "text/clean_latte_caption" : "text/clean_latte_plain");
    expect_cleaned(latte, latte.meta["results"]["cleaned"],
                   [&](const std::string& text) { return clean_latte(text, caption); });
  }
  const TestCase wan("text/clean_wan_prompt");
  expect_cleaned(wan, wan.meta["results"]["cleaned"], clean_wan);
}

TEST(PromptParity, ScoresAreAppendedAsTheReferenceDoes) {
  const TestCase reference("video/prompt_scores_0");
  const auto texts = reference.texts();
  const Json& settings = reference.meta["inputs"]["settings"]["value"];
  for (size_t s = 0; s < settings.size(); ++s) {
    PromptScores scores{.aesthetic = {}};
    if (!settings[s][0].is_null()) scores.aesthetic = settings[s][0].get<double>();
    if (!settings[s][1].is_null()) scores.motion = settings[s][1].get<double>();
    if (!settings[s][2].is_null()) scores.camera_motion = settings[s][2].get<std::string>();
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(append_scores(texts[i], scores),
                reference.meta["outputs"]["prompts"]["value"][s][i].get<std::string>());
    }
  }
}

TEST(PromptParity, SegmentsAndJsonAreTheReferences) {
  const TestCase reference("video/prompt_segments_0");
  const auto texts = reference.texts();
  for (size_t i = 0; i < texts.size(); ++i) {
    const Json& want = reference.meta["outputs"]["segments"]["value"][i];
    const PromptSegments got = PromptSegments::split(texts[i]);
    EXPECT_EQ(Json(got.texts), want["parts"]);
    EXPECT_EQ(got.loops.empty() ? Json() : Json(got.loops), want["loops"]);
    EXPECT_EQ(got.merge(), want["merged"].get<std::string>());
    for (size_t loop = 0; loop < want["per_loop"].size(); ++loop) {
      EXPECT_EQ(got.at(static_cast<int64_t>(loop)), want["per_loop"][loop].get<std::string>());
    }
  }
  const Json& inputs = reference.meta["inputs"]["json_texts"]["value"];
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto got = split_json_suffix(inputs[i].get<std::string>());
    EXPECT_EQ(Json({got.prompt, got.reference_path, got.mask_strategy}), reference.meta["outputs"]["json"]["value"][i]);
  }
}

TEST(PromptParity, MaskStrategiesAreTheReferences) {
  const TestCase reference("video/mask_parse_0");
  const Json& inputs = reference.meta["inputs"];
  const Json& outputs = reference.meta["outputs"];
  for (size_t i = 0; i < inputs["strategies"]["value"].size(); ++i) {
    Json got = Json::array();
    for (const MaskGroup& g : parse_mask_strategy(inputs["strategies"]["value"][i].get<std::string>())) {
      got.push_back({g.loop, g.reference, g.reference_start, g.target_start, g.length, g.edit_ratio});
    }
    EXPECT_EQ(got, outputs["parsed"]["value"][i]);
  }
  for (size_t i = 0; i < inputs["nearest"]["value"].size(); ++i) {
    const auto n = inputs["nearest"]["value"][i].get<std::vector<int64_t>>();
    EXPECT_EQ(find_nearest_point(n[0], n[1], n[2]), outputs["points"]["value"][i].get<int64_t>());
  }
}

TEST(Prompt, RefusesWhatIsNoPrompt) {
  for (const std::string& text :
       {std::string(), std::string(" \n\t\xC2\xA0"), std::string("\xFF"), std::string(100000, 'a')}) {
    EXPECT_THROW(check_prompt(text), UsageError);
    EXPECT_THROW(prepare_open_sora_prompt(text), UsageError);
  }
  EXPECT_NO_THROW(check_prompt("a"));
  for (const char* text : {"|0|a|x|b", "|0|a|0|b", "|0|a|2", "|0|a||b", "|0|", "|0||2|x", "|0|a|2| ", "|0|a|+-2|b"})
    EXPECT_THROW(PromptSegments::split(text), UsageError) << text;
  EXPECT_EQ(PromptSegments::split("|0|a|+2|b").loops.back(), 2);
  for (const char* text : {"a {b}", "a {", "a {\"x\": 1}", "a {\"mask_strategy\": 1}", "a {}{}", "a {} b"}) {
    EXPECT_THROW(split_json_suffix(text), UsageError) << text;
  }
  for (const char* text : {";", "a", "0,", "+-5", "1.5", "0,0,0,0,1,nan", "0,0,0,0,1,0,0", "99999999999999999999"}) {
    EXPECT_THROW(parse_mask_strategy(text), UsageError) << text;
  }
  EXPECT_THROW(append_scores("a", {.aesthetic = 1e300}), UsageError);
}

TEST(Prompt, OfWhichCleaningLeavesNothingIsRefused) {
  for (const std::string text :
       {"\xE4\xB8\xAD\xE6\x96\x87", "#####", "|0|", "\xE2\x80\x8B", "https://example.com", "|0|a cat|2|#####"}) {
    EXPECT_THROW(prepare_open_sora_prompt(text), UsageError) << text;
  }
  EXPECT_NO_THROW(prepare_open_sora_prompt("\xE4\xB8\xAD cat"));
  EXPECT_NO_THROW(prepare_open_sora_prompt("\xE3\x82\xAB"));  // kana stay
  EXPECT_TRUE(is_blank(" \x1C\xC2\xA0\xE2\x80\x8B\xE2\x80\x8D\xEF\xBB\xBF"));
  EXPECT_FALSE(is_blank("\xE2\x80\x8B."));
}

TEST(Prompt, ABadCameraMotionIsNotBlamedOnThePrompt) {
  try {
    append_scores("a cat", {.camera_motion = "pan\xFF"});
    ADD_FAILURE();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "the camera motion is not valid UTF-8 at byte 3");
  }
}

TEST(Prompt, PreparesEachSegment) {
  EXPECT_EQ(prepare_open_sora_prompt("|0|A  Cat!|2|a dog. motion score: 3.", {.motion = 4}),
            "|0|a cat! aesthetic score: 6.5. motion score: 4.0.|2|a dog. motion score: 3. aesthetic score: 6.5.");
  EXPECT_EQ(prepare_open_sora_prompt("Sunset", {.aesthetic = {}}), "sunset");
}

TEST(PromptCleaning, RefusesBrokenAndHostileText) {
  for (const std::string& text : {std::string("\xFF"), std::string(kMaxTextBytes + 1, 'a')}) {
    EXPECT_THROW(clean_open_sora(text), UsageError);
    EXPECT_THROW(clean_latte(text, true), UsageError);
    EXPECT_THROW(clean_latte(text, false), UsageError);
    EXPECT_THROW(clean_wan(text), UsageError);
  }
  std::string dots;
  while (dots.size() + 2 < kMaxTextBytes) dots += "a.";
  EXPECT_THROW(clean_open_sora(dots), UsageError);
}

TEST(PromptCleaning, UnquotesAsPython) {
  EXPECT_EQ(unquote_plus("a+b%20c%"), "a b c%");
  EXPECT_EQ(unquote_plus("%E4%B8%ADx%zz"), "\xE4\xB8\xADx%zz");
  EXPECT_EQ(unquote_plus("%E4%B8x%FF%80"), "\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(unquote_plus("\xC3\xA9%C3\xC3\xA9"), "\xC3\xA9\xEF\xBF\xBD\xC3\xA9");
}

TEST(Html, UnescapesAsPython) {
  EXPECT_EQ(html_unescape("&lt;&LT&ltx;&notit;&nosuch; &"), "<<<x;\xC2\xACit;&nosuch; &");
  EXPECT_EQ(html_unescape("&#65;&#x41&#X41;&#0;&#128;&#1;&#1114112;&#xD800;"),
            "AAA\xEF\xBF\xBD\xE2\x82\xAC\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(html_unescape_strict("&eacute;&EACUTE;&amp &nTILDE;&#59;&#65;"), "\xC3\xA9\xC3\x89&amp &nTILDE;&#59;A");
}

TEST(Html, TextLosesItsMarkup) {
  EXPECT_EQ(html_text("<p>a<b>b</b></p><!-- c --><script>d</script><br/>e &amp; f&foo; <g"), "abe & f&foo <g");
  EXPECT_EQ(html_text("a <1 b < c <style>x"), "a <1 b < c ");
  EXPECT_EQ(html_text("<![CDATA[x]]>y<?php z ?>"), "xy");
}

TEST(Html, EndlessMarkupIsAUsageErrorAndTakesNoSeconds) {
  const auto filled = [](std::string_view part) {
    std::string text;
    while (text.size() + part.size() <= kMaxTextBytes) text += part;
    return text;
  };
  for (const char* part : {"<!--", "<a ", "<a", "<x/y=", "<a b=\"", "</a ", "<![cdata[", "<!x", "<?", "<a></b>"}) {
    EXPECT_THROW(html_text(filled(part)), UsageError) << part;
    EXPECT_THROW(clean_open_sora(filled(part)), UsageError) << part;
    EXPECT_NO_THROW(html_text(filled(part).substr(0, 2048))) << part;
  }
  EXPECT_EQ(html_text(filled("<a>xy")).size(), kMaxTextBytes / 5 * 2);
  EXPECT_EQ(html_text("<pre> <b> \n</pre> \n<rt>a<p>b</rt>c"), "  \n\nc");
}

TEST(FixText, RepairsWhatFtfyRepairs) {
  EXPECT_EQ(fix_text("caf\xC3\x83\xC2\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(fix_text("\xE2\x80\x9Cx\xE2\x80\x99s\xE2\x80\x9D"), "\"x's\"");
  EXPECT_EQ(fix_text("\x1B[1;31mred\x1B[0m\r\n\xEF\xAC\x81\xEF\xBC\xA1\x02"), "red\nfiA");
  EXPECT_EQ(fix_text("e\xCC\x81 &eacute; <&eacute;\n&eacute;"), "\xC3\xA9 &eacute; <&eacute;\n&eacute;");
}

}  // namespace
}  // namespace kinora::text
