// SPDX-License-Identifier: MIT
#include "source/live/hook_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace laggard::source::live {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::array kTable = {
    Candidate{"reads", "best", {"reads_best", ""}, ""},
    Candidate{"reads", "middle", {"reads_middle_a", "reads_middle_b"}, "costs more"},
    Candidate{"reads", "last", {"reads_last", ""}, "sees less"},
    Candidate{"sweep", "iter", {"sweep", ""}, ""},
};

TEST(HookPlan, TakesTheBestRungOfEachFeed)
{
  const auto result = plan(kTable, {}, {});
  ASSERT_TRUE(result);
  ASSERT_EQ(result->choices.size(), 2U);
  EXPECT_EQ(result->choices[0].feed, "reads");
  EXPECT_EQ(result->choices[0].hook, "best");
  EXPECT_EQ(result->choices[0].note, "");
  EXPECT_EQ(result->choices[1].hook, "iter");
  EXPECT_THAT(result->programs, ElementsAre("reads_best", "sweep"));
  EXPECT_EQ(result->gap, "");
}

TEST(HookPlan, FallsBackAndSaysWhatIsWeaker)
{
  const auto result = plan(kTable, {{"best", "no such tracepoint"}}, {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->choices[0].hook, "middle");
  EXPECT_EQ(result->choices[0].note, "costs more");
  EXPECT_THAT(result->programs, ElementsAre("reads_middle_a", "reads_middle_b", "sweep"));
  const auto lower = plan(kTable, {{"best", "no such tracepoint"}, {"middle", "EPERM"}}, {});
  EXPECT_EQ(lower->choices[0].hook, "last");
}

TEST(HookPlan, AnEmptyReasonMeansAvailable)
{
  EXPECT_EQ(plan(kTable, {{"best", ""}}, {})->choices[0].hook, "best");
}

TEST(HookPlan, AFeedWithoutAHookIsAGapThatNamesEveryRefusal)
{
  const auto result = plan(kTable, {{"best", "why 1"}, {"middle", "why 2"}, {"last", "why 3"}}, {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->choices[0].hook, "");
  EXPECT_EQ(result->choices[1].hook, "iter");
  EXPECT_THAT(result->programs, ElementsAre("sweep"));
  for (const char* part : {"reads", "best: why 1", "middle: why 2", "last: why 3"})
    EXPECT_THAT(result->gap, HasSubstr(part));
}

TEST(HookPlan, AForcedRungIsTakenThoughABetterOneIsThere)
{
  const auto result = plan(kTable, {}, {{"reads", "last"}});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->choices[0].hook, "last");
  EXPECT_EQ(result->choices[0].note, "sees less");
  EXPECT_EQ(result->choices[1].hook, "iter");
}

TEST(HookPlan, AForcedRungThatIsRefusedIsAGapAndNotAnotherRung)
{
  const auto result = plan(kTable, {{"last", "EPERM"}}, {{"reads", "last"}});
  ASSERT_TRUE(result);
  EXPECT_THAT(result->gap, HasSubstr("last: EPERM"));
}

TEST(HookPlan, AnUnknownForcedRungIsAnErrorThatListsTheKnownOnes)
{
  for (const auto& forced : {std::map<std::string, std::string>{{"reads", "kprobe"}}, {{"swep", "iter"}}, {{"reads", "iter"}}}) {
    const auto result = plan(kTable, {}, forced);
    ASSERT_FALSE(result);
    for (const char* part : {"reads=best", "reads=middle", "reads=last", "sweep=iter"})
      EXPECT_THAT(result.error().message(), HasSubstr(part));
    EXPECT_THAT(result.error().message(), HasSubstr(forced.begin()->first + "=" + forced.begin()->second));
  }
}

TEST(HookPlan, AnOptionalFeedWithoutAHookIsNoGapAndSaysWhatIsMissing)
{
  constexpr std::array kWithOptional = {Candidate{"reads", "best", {"reads_best", ""}, ""},
                                        Candidate{"extra", "iter/extra", {"extra", ""}, "", Use::Optional}};
  const auto whole = plan(kWithOptional, {}, {});
  EXPECT_THAT(whole->programs, ElementsAre("reads_best", "extra"));
  const auto result = plan(kWithOptional, {{"iter/extra", "the kernel refused it"}}, {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->gap, "");
  EXPECT_THAT(result->programs, ElementsAre("reads_best"));
  EXPECT_EQ(result->choices[1].hook, "");
  EXPECT_THAT(result->choices[1].note, HasSubstr("the kernel refused it"));
  EXPECT_NE(plan(kWithOptional, {{"best", "EPERM"}}, {})->gap, "");
}

TEST(HookPlan, TheRealTableHasABestRungWithoutAReservationForEveryFeed)
{
  const auto result = plan(kCandidates, {}, {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->gap, "");
  for (const model::HookChoice& choice : result->choices)
    EXPECT_EQ(choice.note, "") << choice.feed;
  for (const Candidate& candidate : kCandidates) {
    const auto forced = plan(kCandidates, {}, {{std::string(candidate.feed), std::string(candidate.hook)}});
    ASSERT_TRUE(forced);
    EXPECT_EQ(forced->gap, "");
  }
}

}  // namespace
}  // namespace laggard::source::live
