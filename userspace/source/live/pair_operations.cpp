// SPDX-License-Identifier: MIT
#include "source/live/pair_operations.h"

#include <bpf/bpf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <set>

#include "source/records.h"

namespace laggard::source::live {
namespace {

// Half octaves: the spans of a rule, each twice as long as the one before, begin where a bucket does.
std::size_t age_bucket(std::uint64_t age_ns)
{
  const double halves = 2 * std::log2(static_cast<double>(std::max<std::uint64_t>(age_ns, 1)) / LAGGARD_PAIR_AGE_NS);
  return static_cast<std::size_t>(std::clamp(halves, 0.0, LAGGARD_PAIR_AGES - 1.0));
}

// Everything in a hash map, a thousand entries per system call.
template <class Key, class Value, class Take>
void each_entry(int map, Take take)
{
  std::vector<Key> keys(1024);
  std::vector<Value> values(keys.size());
  __u32 position = 0;
  for (bool first = true;; first = false) {
    auto count = static_cast<__u32>(keys.size());
    const int error = bpf_map_lookup_batch(map, first ? nullptr : &position, &position, keys.data(), values.data(), &count, nullptr);
    if (error != 0 && errno == ENOSPC) {  // a bucket with more than that
      keys.resize(keys.size() * 2);
      values.resize(keys.size());
      continue;
    }
    if (error != 0 && errno != ENOENT)
      return;
    for (__u32 i = 0; i < count; i++)
      take(keys[i], values[i]);
    if (error != 0)
      return;
  }
}

// What a Go function is an instance of spells out whole interfaces: "f[go.shape.interface { ... }]" is "f[...]".
std::string shorten_instance(const std::string& name)
{
  std::string text;
  int depth = 0;
  for (char c : name) {
    depth -= c == ']' && depth > 0;
    if (depth == 0)
      text += c;
    if (c == '[' && depth++ == 0)
      text += "...";
  }
  return text;
}

std::string stack_text(const std::vector<identify::Frame>& frames)
{
  std::string text;
  for (const identify::Frame& frame : frames) {
    if (frame.symbol.empty() && frame.module.empty())
      break;
    const std::string module = frame.module.substr(frame.module.rfind('/') + 1);
    const std::string name = frame.symbol.empty() ? fmt::format("{}+{:#x}", module, frame.module_offset) : frame.symbol;
    text += (text.empty() ? "" : "\n") + shorten_instance(name);
  }
  return text;
}

bool has_lanes(const PairSpec& spec) { return spec.begins.front().keys.size() > 1; }

}  // namespace

// The connection of these operations is over, and they with it.
void PairOperations::forget_abandoned()
{
  // Less one part: what an operation shares with its connection.
  const auto connection_of = [](laggard_operation_key key) {
    key.key[1] = 0;
    return std::string(reinterpret_cast<const char*>(&key), sizeof key);
  };
  std::map<std::string, std::uint64_t> over;  // and when
  const int map = bpf_map__fd(skeleton_->maps.abandoned);
  each_entry<laggard_operation_key, std::uint64_t>(map, [&](const laggard_operation_key& key, std::uint64_t when) {
    over[connection_of(key)] = when;
    bpf_map_delete_elem(map, &key);
  });
  if (over.empty())
    return;
  const int operations = bpf_map__fd(skeleton_->maps.operations);
  each_entry<laggard_operation_key, laggard_operation>(operations, [&](const laggard_operation_key& key, const laggard_operation& operation) {
    const auto found = over.find(connection_of(key));
    if (found != over.end() && operation.begin_ns <= found->second && bpf_map_delete_elem(operations, &key) == 0)
      abandoned_[{key.tgid, key.start_ns, key.pair}] += operation.count;
  });
}

std::map<PairOperations::ProcessPair, PairOperations::Group> PairOperations::groups(std::uint64_t now_ns, std::uint32_t epoch,
                                                                                   std::span<const PairSpec* const> pairs,
                                                                                   const IsAlive& is_alive)
{
  std::map<ProcessPair, Group> groups;
  std::vector<laggard_pair_key> gone;
  std::set<std::uint32_t> ended_somewhere;
  const int totals = bpf_map__fd(skeleton_->maps.totals);
  each_entry<laggard_pair_key, laggard_pair_totals>(totals, [&](const laggard_pair_key& key, const laggard_pair_totals& sums) {
    if (key.pair >= pairs.size() || pairs[key.pair] == nullptr || !is_alive(key.tgid, key.start_ns)) {
      gone.push_back(key);
      return;
    }
    if (sums.last_end_ns != 0)
      ended_somewhere.insert(key.pair);
    if (sums.stopped != 0)
      return;  // it stays so: its entry is kept
    Group& group = groups[{key.tgid, key.start_ns, key.pair}];
    // Another program has taken the process over: what the one before it left open never ends.
    if (group.record.tgid != 0) {
      laggard_pair_key older = key;
      older.exec = std::min(key.exec, group.exec);
      gone.push_back(older);
      if (key.exec < group.exec)
        return;
    }
    group = {};
    group.exec = key.exec;
    group.last_ended_begin_ns = sums.last_ended_begin_ns;
    const PairSpec& spec = *pairs[key.pair];
    laggard_pair_record& record = group.record;
    record.header = {LAGGARD_RECORD_PAIR, sizeof record, epoch};
    record.start_ns = key.start_ns;
    record.mono_ns = now_ns;
    record.begun = sums.begun;
    record.ended = sums.ended;
    record.unmatched = sums.unmatched;
    record.lost = sums.lost;
    record.unreadable = sums.unreadable;
    record.refused = sums.refused;
    record.last_end_ns = sums.last_end_ns;
    record.last_matched_ns = sums.last_matched_ns;
    record.slowest_ns = sums.slowest_ns;
    record.tgid = key.tgid;
    record.flags = LAGGARD_PAIR_TELLS_SEEN | (sums.begin_seen != 0 ? LAGGARD_PAIR_BEGIN_SEEN : 0) |
                   (sums.last_end_ns != 0 || spec.never_inlined ? LAGGARD_PAIR_END_SEEN : 0) | (spec.each ? LAGGARD_PAIR_EACH : 0) |
                   (has_lanes(spec) ? LAGGARD_PAIR_BY_CONNECTION : 0);
    copy_text(record.name, spec.name);
    copy_text(record.what, spec.what);
    copy_text(record.advice, spec.advice);
  });
  for (auto& [key, group] : groups) {
    const std::uint32_t pair = std::get<2>(key);
    if (pairs[pair]->binary.find('*') == std::string::npos && ended_somewhere.contains(pair))
      group.record.flags |= LAGGARD_PAIR_END_SEEN;
    if (const auto abandoned = abandoned_.find(key); abandoned != abandoned_.end())
      group.record.ended += abandoned->second;
  }
  for (const laggard_pair_key& key : gone) {
    bpf_map_delete_elem(totals, &key);
    if (groups.contains({key.tgid, key.start_ns, key.pair}))
      continue;
    std::erase_if(stacks_, [&key](const auto& entry) { return std::get<0>(entry.first) == key.tgid; });
    if (asked_for_ && std::get<0>(*asked_for_) == key.tgid)
      asked_for_.reset();
    abandoned_.erase({key.tgid, key.start_ns, key.pair});
  }
  return groups;
}

// Of a connection without outstanding operations nothing needs to be known: what begins on it is younger than all that ended.
std::map<PairOperations::Lane, std::uint64_t> PairOperations::lanes(const std::map<ProcessPair, Group>& groups)
{
  std::map<Lane, std::uint64_t> lanes;
  const int map = bpf_map__fd(skeleton_->maps.lanes);
  each_entry<laggard_lane_key, std::uint64_t>(map, [&](const laggard_lane_key& key, std::uint64_t latest) {
    const ProcessPair process{key.process.tgid, key.process.start_ns, key.process.pair};
    const auto group = groups.find(process);
    if (group == groups.end() || key.process.exec != group->second.exec)
      bpf_map_delete_elem(map, &key);
    else
      lanes[{process, key.first}] = latest;
  });
  return lanes;
}

// Calls that never returned: of processes that are gone.
void PairOperations::forget_calls(const IsAlive& is_alive)
{
  const int map = bpf_map__fd(skeleton_->maps.calls);
  each_entry<laggard_call_key, laggard_call>(map, [&](const laggard_call_key& key, const laggard_call& call) {
    if (!is_alive(key.tgid, call.start_ns))
      bpf_map_delete_elem(map, &key);
  });
}

void PairOperations::collect(MonoTime now, std::uint32_t epoch, std::span<const PairSpec* const> pairs, const IsAlive& is_alive, RawTick& into)
{
  forget_abandoned();
  forget_calls(is_alive);
  const auto now_ns = static_cast<std::uint64_t>(now.time_since_epoch().count());
  auto groups = this->groups(now_ns, epoch, pairs, is_alive);
  auto lanes = this->lanes(groups);
  std::set<Lane> used;
  const int operations = bpf_map__fd(skeleton_->maps.operations);
  each_entry<laggard_operation_key, laggard_operation>(operations, [&](const laggard_operation_key& key, const laggard_operation& operation) {
    const ProcessPair process{key.tgid, key.start_ns, key.pair};
    const auto group = groups.find(process);
    if (group == groups.end() || key.exec < group->second.exec) {
      bpf_map_delete_elem(operations, &key);
      return;
    }
    const bool has_lane = has_lanes(*pairs[key.pair]);
    if (has_lane)
      used.insert({process, key.key[0]});
    if (static_cast<std::int32_t>(operation.count) <= 0 ||  // for an instant, where two CPUs end one operation
        operation.begin_ns > now_ns)                         // younger than the totals
      return;
    const auto lane = lanes.find({process, key.key[0]});
    const std::uint64_t latest = !has_lane ? group->second.last_ended_begin_ns : lane != lanes.end() ? lane->second : 0;
    count(group->second, operation, operation.shared == 0 && operation.begin_ns < latest, now_ns);
  });
  for (const auto& [lane, latest] : lanes) {
    const auto& [tgid, start_ns, pair] = lane.first;
    const laggard_lane_key key{lane.second, {start_ns, tgid, groups.at(lane.first).exec, pair, 0}};
    if (!used.contains(lane))
      bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.lanes), &key);
  }
  for (auto& [_, group] : groups) {
    // Only what has lasted for a second is worth a name, and one alone only where one is a finding.
    const laggard_pair_record& record = group.record;
    const bool enough = record.outstanding >= ((record.flags & LAGGARD_PAIR_EACH) != 0 ? 1 : 2);
    if (enough && now_ns >= record.oldest_begin_ns + 1'000'000'000 && names_functions_)
      tell_who_begins(group);
    append(into, group.record);
  }
}

void PairOperations::count(Group& group, const laggard_operation& operation, bool overtaken, std::uint64_t now_ns)
{
  laggard_pair_record& record = group.record;
  if (record.oldest_begin_ns == 0 || operation.begin_ns < record.oldest_begin_ns)
    record.oldest_begin_ns = operation.begin_ns;
  const std::size_t bucket = age_bucket(now_ns - operation.begin_ns);
  (overtaken ? record.overtaken[bucket] : record.waiting[bucket]) += operation.count;
  record.outstanding += operation.count;
  Group::Begun& begun = group.begun[{operation.caller, operation.stack}];
  begun.count += operation.count;
  begun.overtaken += overtaken ? operation.count : 0;
  begun.example = operation;
}

// The function that begins most of them, and of its calls the stack that most have.
void PairOperations::tell_who_begins(Group& group)
{
  laggard_pair_record& record = group.record;
  const bool any_overtaken = std::ranges::any_of(group.begun, [](const auto& entry) { return entry.second.overtaken > 0; });
  struct Caller {
    std::uint32_t count = 0;
    std::map<std::int32_t, std::pair<std::uint32_t, const laggard_operation*>> stacks;
  };
  std::map<std::int32_t, std::uint64_t> callers_by_stack;  // where the probe is in the middle of a function
  std::map<std::uint64_t, Caller> callers;
  for (const auto& [_, begun] : group.begun) {
    // Those in flight came from somewhere, too: not of them the stack that is shown.
    const std::uint32_t counted = any_overtaken ? begun.overtaken : begun.count;
    if (counted == 0)
      continue;
    const laggard_operation& operation = begun.example;
    std::uint64_t caller = operation.caller;
    if (caller == 0) {
      const auto [known, is_new] = callers_by_stack.try_emplace(operation.stack, 0);
      if (is_new)
        if (const auto addresses = addresses_of(operation); addresses.size() > 1)
          known->second = addresses[1];
      caller = known->second;
    }
    Caller& one = callers[caller];
    one.count += counted;
    auto& [count, example] = one.stacks[operation.stack];
    count += counted;
    example = &operation;
  }
  const auto& [address, most] = *std::ranges::max_element(callers, {}, [](const auto& entry) { return entry.second.count; });
  const auto& [stack, usual] = *std::ranges::max_element(most.stacks, {}, [](const auto& entry) { return entry.second.first; });
  const Stack key{record.tgid, record.start_ns, address, stack};
  const auto text = stacks_.find(key);
  if (text == stacks_.end()) {
    ask_for_names(key, addresses_of(*usual.second));
    return;
  }
  record.stack_count = most.count;
  copy_text(record.stack, text->second);
}

// Innermost first: where it began, and who called that.
std::vector<std::uint64_t> PairOperations::addresses_of(const laggard_operation& operation) const
{
  std::vector<std::uint64_t> addresses(LAGGARD_PAIR_FRAMES);
  const std::int32_t stack = operation.stack;
  if (stack < 0 || bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.stacks), &stack, addresses.data()) != 0)
    addresses.assign(1, 0);
  std::erase(addresses, 0U);
  if (operation.caller != 0 && (addresses.size() < 2 || addresses[1] != operation.caller))
    addresses.insert(addresses.begin() + (addresses.empty() ? 0 : 1), operation.caller);
  return addresses;
}

// Of a process that is gone by then nothing is kept, nor of another that has its number.
void PairOperations::ask_for_names(const Stack& stack, const std::vector<std::uint64_t>& addresses)
{
  if (is_asking_)
    return;
  is_asking_ = true;
  asked_for_ = stack;
  reader_->name(std::get<0>(stack), addresses, [this, stack](const Result<std::vector<identify::Frame>>& frames) {
    is_asking_ = false;
    if (asked_for_ != stack)
      return;
    asked_for_.reset();
    stacks_.emplace(stack, frames ? stack_text(*frames) : std::string{});
    if (!frames)
      trouble_ = fmt::format("--pairs: who begins operations in process {} has no names: a file of it {}", std::get<0>(stack),
                             frames.error().message());
  });
}

}  // namespace laggard::source::live
