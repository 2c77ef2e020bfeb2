// SPDX-License-Identifier: MIT
// A recent past as a bounded number of looks.
#pragma once

#include <cstddef>
#include <vector>

#include "base/time.h"

namespace laggard::model {

// A window is kept as at most this many looks; short intervals are thinned.
inline constexpr int kLooksPerWindow = 10;

// The newest look is always there; the one before it goes if the two are closer than the window needs. Kept are the looks of
// the window, the last one before it, and at least `least`.
template <class Look>
void remember(std::vector<Look>& history, const Look& look, Duration window, std::size_t least)
{
  const std::size_t n = history.size();
  if (n >= 2 && history[n - 1].time - history[n - 2].time < window / kLooksPerWindow)
    history.pop_back();
  history.push_back(look);
  std::size_t old = 0;
  while (history.size() - old > least && history[old + 1].time <= look.time - window)
    old++;
  history.erase(history.begin(), history.begin() + static_cast<std::ptrdiff_t>(old));
}

// Gives the memory back: clear() would keep it.
template <class Look>
void forget(std::vector<Look>& history)
{
  std::vector<Look>{}.swap(history);
}

}  // namespace laggard::model
