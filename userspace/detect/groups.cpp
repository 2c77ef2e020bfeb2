// SPDX-License-Identifier: MIT
#include "detect/groups.h"

#include <iterator>

namespace laggard::detect {
namespace {

using Counts = std::map<Subject, std::size_t>;  // of subjects that one stands for, where that is more than itself

// What there is of one whole.
struct Alike {
  std::size_t subjects = 0;
  std::size_t members = 0;
  std::set<model::ProcessId> processes;
};

// Merges the groups of all subjects that are more than a few of one `whole`.
template <class Whole>
void merge(const std::set<Subject>& ripening, const std::function<bool(const Subject&)>& is_open, Groups& groups, Counts& counts,
           std::size_t limit, Whole whole_of)
{
  std::map<Subject, Alike> wholes;
  for (const auto& [subject, members] : groups) {
    Alike& alike = wholes[whole_of(subject)];
    const auto count = counts.find(subject);
    alike.subjects += count != counts.end() ? count->second : 1;
    alike.members += members.size();
    alike.processes.insert(subject.process);
  }
  for (const Subject& subject : ripening)
    if (!groups.contains(subject))
      wholes[whole_of(subject)].subjects++;
  Groups merged;
  for (auto group = groups.begin(); group != groups.end();) {
    const Subject whole = whole_of(group->first);
    const Alike& alike = wholes.at(whole);
    const std::size_t most = is_open(whole) ? limit / 2 : limit;
    // One process is its own whole.
    const bool is_one_process = whole.program != 0 && alike.processes.size() < 2;
    if (whole == Subject{} || whole == group->first || alike.subjects <= most || is_one_process) {
      ++group;
      continue;
    }
    counts[whole] = alike.subjects;
    std::vector<Verdict>& members = merged[whole];
    members.reserve(alike.members);
    members.insert(members.end(), std::make_move_iterator(group->second.begin()), std::make_move_iterator(group->second.end()));
    group = groups.erase(group);
  }
  groups.merge(merged);
}

Subject all_of_process(const Subject& subject)
{
  Subject whole;
  if (!subject.process)
    return whole;
  whole.kind = subject.kind;
  whole.process = subject.process;
  whole.is_whole = true;
  return whole;
}

Subject all_of_program(const model::Model& model, const Subject& subject)
{
  Subject whole;
  const model::Process* process = model.find(subject.process);
  if (process == nullptr || process->latest().exe_inode == 0)
    return whole;
  const model::ProcessSample& sample = process->latest();
  std::size_t program = model::hash_bytes(sample.comm.data(), sample.comm.size());
  for (const std::uint64_t part : {std::uint64_t{sample.exe_device}, sample.exe_inode, sample.cgroup_id})
    program = model::hash_bytes(&part, sizeof part, program);
  whole.kind = subject.kind;
  whole.program = program;
  whole.is_whole = true;
  return whole;
}

// A process subject has no endpoint.
Subject all_of_program_at_endpoint(const model::Model& model, const Subject& subject)
{
  Subject whole = all_of_program(model, subject);
  if (whole == Subject{} || subject.is_whole || subject.endpoint == model::Endpoint{})
    return {};
  whole.netns = subject.netns;
  whole.transport = subject.transport;
  whole.server_side = subject.server_side;
  whole.endpoint = subject.endpoint;
  return whole;
}

}  // namespace

std::vector<Subject> wholes_of(const model::Model& model, const Subject& subject)
{
  std::vector<Subject> wholes = {all_of_process(subject), all_of_program_at_endpoint(model, subject), all_of_program(model, subject)};
  std::erase_if(wholes, [&](const Subject& whole) { return whole == Subject{} || whole == subject; });
  return wholes;
}

void collapse(const model::Model& model, const std::set<Subject>& ripening, const std::function<bool(const Subject&)>& is_open,
              Groups& groups)
{
  Counts counts;
  merge(ripening, is_open, groups, counts, kMostAlike, all_of_process);
  merge(ripening, is_open, groups, counts, kMostAlike, [&](const Subject& subject) { return all_of_program_at_endpoint(model, subject); });
  merge(ripening, is_open, groups, counts, kMostProcessesAlike, [&](const Subject& subject) { return all_of_program(model, subject); });
}

}  // namespace laggard::detect
