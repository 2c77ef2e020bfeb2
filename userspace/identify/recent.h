// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <map>
#include <utility>

namespace laggard::identify {

// What was used lately: at most `capacity` values, of which the later half never goes.
template <class Key, class Value>
class Recent {
 public:
  explicit Recent(std::size_t capacity) : half_(capacity / 2) {}

  // Null: not there, or not any more. Valid until the next call.
  Value* find(const Key& key)
  {
    if (const auto found = young_.find(key); found != young_.end()) return &found->second;
    const auto found = old_.find(key);
    if (found == old_.end()) return nullptr;
    Value value = std::move(found->second);
    old_.erase(found);
    return &put(key, std::move(value));
  }

  Value& put(const Key& key, Value value)
  {
    if (young_.size() >= half_ && !young_.contains(key)) {
      old_ = std::move(young_);
      young_.clear();
    }
    return young_.insert_or_assign(key, std::move(value)).first->second;
  }

  std::size_t size() const { return young_.size() + old_.size(); }

 private:
  std::size_t half_;
  std::map<Key, Value> young_;
  std::map<Key, Value> old_;
};

}  // namespace laggard::identify
