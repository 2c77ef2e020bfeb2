// SPDX-License-Identifier: MIT
// A recent past as a bounded number of looks.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/time.h"

namespace laggard::model {

// A window is kept as at most this many looks, where nothing else is said; short intervals are thinned.
inline constexpr int kLooksPerWindow = 10;

// Values over a window, oldest first. A Look is small and has a `time`; an empty history has no memory of its own.
template <class Look>
class Looks {
 public:
  // The newest look is always there; the one before it goes if it is less than `apart` younger than the one before that. Kept are
  // the looks of the window, the last one before it, and at least `least`.
  void add(const Look& look, Duration window, Duration apart, std::size_t least = 2)
  {
    const std::size_t n = looks_.size();
    if (n >= 2 && looks_[n - 1].time - looks_[n - 2].time < apart)
      looks_.pop_back();
    looks_.push_back(look);
    std::size_t old = 0;
    while (looks_.size() - old > least && looks_[old + 1].time <= look.time - window)
      old++;
    looks_.erase(looks_.begin(), looks_.begin() + static_cast<std::ptrdiff_t>(old));
  }
  void add(const Look& look, Duration window, std::size_t least = 2) { add(look, window, window / kLooksPerWindow, least); }

  // Gives the memory back.
  void clear() { std::vector<Look>{}.swap(looks_); }

  bool empty() const { return looks_.empty(); }
  std::size_t size() const { return looks_.size(); }
  std::size_t capacity() const { return looks_.capacity(); }
  const Look& operator[](std::size_t i) const { return looks_[i]; }
  const Look& front() const { return looks_.front(); }
  const Look& back() const { return looks_.back(); }
  auto begin() const { return looks_.begin(); }
  auto end() const { return looks_.end(); }
  operator std::span<const Look>() const { return looks_; }

 private:
  std::vector<Look> looks_;
};

}  // namespace laggard::model
