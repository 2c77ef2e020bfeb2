// SPDX-License-Identifier: MIT
// Probes in user-space programs where operations begin and end (DESIGN 5.5). The object exists exactly while it is loaded;
// it attaches to programs as they turn up.
#pragma once

#include <bpf/libbpf.h>

#include <functional>
#include <laggard/abi/pairs.h>  // the skeleton needs its types
#include <laggard/abi/records.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "identify/functions.h"
#include "pairs.skel.h"
#include "source/decode.h"
#include "source/live/programs.h"
#include "source/pair_spec.h"

namespace laggard::source::live {

struct PairOptions {
  std::vector<PairSpec> pairs;  // at most LAGGARD_MAX_PAIRS
  // Above this a pair is detached for good. A hit costs the program 1.5 us and the kernel's trap (tests/bench/pair_cost): where
  // that is a virtual machine's, 12 us in all, this is 12 % of one core.
  std::uint64_t hits_per_second = 10'000;
  std::string hook;  // "uprobe_multi" or "uprobe"; empty: the best that works
};

class PairProbe {
 public:
  // Errors: the kernel refuses, with the reason. A pair that fits no program is a message, not an error.
  static Result<std::unique_ptr<PairProbe>> open(PairOptions options);
  ~PairProbe();
  PairProbe(const PairProbe&) = delete;
  PairProbe& operator=(const PairProbe&) = delete;

  // "uprobe_multi", or "uprobe": a perf event for each function, which takes CAP_SYS_ADMIN (measured on 6.1 and 6.18).
  std::string_view hook() const { return multi_ ? "uprobe_multi" : "uprobe"; }

  // Attaches to what processes run by now and did not before; lets go of files that nobody runs any more.
  void look_for_programs();
  // Detaches what is hit too often; true where anything was.
  bool detach_stopped();
  // One PAIR record for each process and pair. What is known of processes that are gone is forgotten.
  using IsAlive = std::function<bool(std::uint32_t tgid, std::uint64_t start_ns)>;
  void collect(MonoTime now, std::uint32_t epoch, const IsAlive& is_alive, RawTick& into);

  // CPU time of the latest collect() that went into names of functions: once for each stack, and beside the walk that it paces.
  Duration naming_cpu() const { return naming_cpu_; }

  // A map whose ring wakes when detach_stopped() has work.
  int stops_map_fd() const { return bpf_map__fd(skeleton_->maps.stops); }
  // What a person should know, once each: sentences that begin with file and line of the pair.
  std::vector<std::string> take_messages() { return std::exchange(messages_, {}); }
  // Pairs that are attached somewhere, or could still be.
  std::size_t usable() const;

 private:
  struct DestroySkeleton {
    void operator()(pairs_bpf* skeleton) const { pairs_bpf__destroy(skeleton); }
  };
  struct DestroyLink {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  using Link = std::unique_ptr<bpf_link, DestroyLink>;
  struct Point {  // one address of one file
    std::uint64_t offset = 0;
    std::uint64_t cookie = 0;
  };
  struct Attached {
    std::vector<Link> links;
    std::vector<Fd> multi_links;
  };
  struct Pair {
    PairSpec spec;
    std::map<FileId, Attached> files;
    bool refused = false;  // it is wrong, not only absent
    bool stopped = false;
  };
  struct Seen {
    FileId id;               // of the file itself; none where no pair wants it
    std::uint64_t look = 0;  // the latest that saw it
  };

  explicit PairProbe(PairOptions options);
  Result<void> load();
  void consider(const ProgramFile& file);
  Result<std::optional<Attached>> attach(std::size_t number, const std::string& name, const OpenProgram& program,
                                         const identify::FunctionTable* table, bool must_have);
  Result<bool> attach_usdt(Attached& to, const std::string& path, const ProbeSpec& probe, std::uint64_t cookie);
  Result<std::uint64_t> cookie_of(std::size_t number, const ProbeSpec& probe, std::uint32_t role, identify::CallingConvention convention);
  Result<void> attach_functions(Attached& to, const std::string& path, std::span<const Point> points);
  void say(const PairSpec& spec, std::uint32_t line, const std::string& what);
  void forget_abandoned();
  void tell_outstanding(std::span<const laggard_operation> outstanding, std::uint64_t last_ended_begin_ns, std::uint64_t now_ns,
                        laggard_pair_record& record);
  std::string stack_text(std::uint32_t tgid, std::uint64_t caller, std::int32_t stack);

  PairOptions options_;
  std::unique_ptr<pairs_bpf, DestroySkeleton> skeleton_;
  bool multi_ = false;
  bool proc_is_the_hosts_ = true;
  bool sees_others_ = true;
  std::vector<Pair> pairs_;
  std::map<std::pair<FileId, std::string>, Seen> seen_;  // by what stat() says, and the name
  std::uint64_t looks_ = 0;
  std::map<std::pair<const ProbeSpec*, identify::CallingConvention>, std::uint64_t> cookies_;
  Duration naming_cpu_{};
  std::vector<std::string> messages_;
  std::set<std::string> said_;
  using ProcessPair = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;  // tgid, start, pair
  std::map<ProcessPair, std::uint64_t> abandoned_;                              // operations
  std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::int32_t>, std::string> stacks_;  // by tgid, start, caller, stack
};

}  // namespace laggard::source::live
