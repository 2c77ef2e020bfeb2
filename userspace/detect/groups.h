// SPDX-License-Identifier: MIT
// Which verdicts are one finding. One subject is one; where many are alike (a frozen proxy's 2 000 upstreams, 200 workers that
// lag together), they are one finding with counts.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "detect/rule.h"

namespace laggard::detect {

// More than so many subjects of one process, or of one program in one cgroup, become one; fewer than half of it again several.
// Ten processes that share no endpoint are ten to look at: what one does says little of what the next one does.
inline constexpr std::size_t kMostAlike = 8;
inline constexpr std::size_t kMostProcessesAlike = 16;

using Groups = std::map<Subject, std::vector<Verdict>>;

// The collapsed subjects that `subject` may be part of, the narrowest first: of its process, of all processes that run its program,
// at its endpoint, and at any. A process that nobody knows, and one of which the executable is not known, is alone.
std::vector<Subject> wholes_of(const model::Model& model, const Subject& subject);

// `ripening`: subjects whose verdicts are half-way, which count, so that what comes a tick later opens nothing of its own.
// `is_open`: collapsed ones stay so until they have shrunk.
void collapse(const model::Model& model, const std::set<Subject>& ripening, const std::function<bool(const Subject&)>& is_open,
              Groups& groups);

}  // namespace laggard::detect
