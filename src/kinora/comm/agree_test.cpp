#include "kinora/comm/agree.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/single.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

TEST(Agree, EqualTextsPassAndDifferentOnesAreShownOnEveryRank) {
  run_ranks(3, [](Communicator& g) {
    agree(g, "nothing", "");
    agree(g, "the request", "a red ball");
    const std::string text = std::string(500, 'x') + (g.rank() == 1 ? "steps=30" : "steps=20");
    try {
      agree(g, "the request", text);
      ADD_FAILURE() << "rank " << g.rank() << " saw no difference";
    } catch (const DifferenceError& error) {
      const std::string words = error.what();
      EXPECT_NE(words.find("ranks differ in the request: rank 0 has '..."), std::string::npos) << words;
      EXPECT_NE(words.find("steps=20', rank 1 has '..."), std::string::npos) << words;
      EXPECT_NE(words.find("steps=30'"), std::string::npos) << words;
      EXPECT_LT(words.size(), 400U);
    }
    EXPECT_THROW(agree(g, "files", g.rank() == 2 ? "abc" : ""), DifferenceError);
  });
  agree(*single(), "alone", "x");
}

TEST(Agree, TextsOfAllRanksComeInOrder) {
  run_ranks(3, [](Communicator& g) {
    const std::string mine = g.rank() == 1 ? "" : std::string(static_cast<size_t>(g.rank()) + 1, 'a');
    EXPECT_EQ(gather_texts(g, mine, "texts"), (std::vector<std::string>{"a", "", "aaa"}));
  });
}

TEST(Agree, OneRankIsEnoughForAny) {
  for (int who = -1; who < 3; ++who)
    run_ranks(3, [who](Communicator& g) { EXPECT_EQ(any(g, g.rank() == who, "any"), who >= 0); });
}

TEST(Agree, WhatTheFirstRankMakesIsEverybodys) {
  run_ranks(3, [](Communicator& g) {
    const std::string id("a\0b", 3);
    EXPECT_EQ(from_first(g, "an id", [&] { return g.rank() == 0 ? id : std::string("not asked"); }), id);
    EXPECT_EQ(from_first(g, "nothing", [] { return std::string(); }), "");
    const std::string most(4096, 'x');
    EXPECT_EQ(from_first(g, "much", [&] { return most; }), most);
  });
}

TEST(Agree, WhatTheFirstRankCannotMakeIsToldOnEveryRank) {
  run_ranks(3, [](Communicator& g) {
    const auto fail = []() -> std::string { throw ResourceError("no sockets left"); };
    try {
      from_first(g, "an id", fail);
      ADD_FAILURE() << "rank " << g.rank() << " got something";
    } catch (const ResourceError& error) {
      EXPECT_EQ(g.rank(), 0);
    } catch (const PeerError& error) {
      EXPECT_STREQ(error.what(), "rank 0 has not made an id: no sockets left");
    }
    g.barrier("still in step");
  });
}

}  // namespace
}  // namespace kinora::comm
