// SPDX-License-Identifier: MIT
// Probes in user-space programs where operations begin and end (DESIGN 5.5). The object exists exactly while it is loaded;
// it attaches to programs as they turn up.
#pragma once

#include <laggard/abi/pairs.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "identify/functions.h"
#include "pairs.skel.h"
#include "source/live/elf_reader.h"
#include "source/live/map_watch.h"
#include "source/live/pair_links.h"
#include "source/live/pair_operations.h"
#include "source/live/programs.h"
#include "source/pair_spec.h"

namespace laggard::source::live {

struct PairOptions {
  std::vector<PairSpec> pairs;  // at most LAGGARD_MAX_PAIRS
  // A process that hits a pair more often is not probed for it any more. A hit costs the program what tests/bench/pair_cost says:
  // where the kernel's trap is a virtual machine's, 12 to 28 us, so that this is 12 to 28 % of one core.
  std::uint64_t hits_per_second = 10'000;
  std::string hook;  // "uprobe_multi" or "uprobe"; empty: the best that works
};

class PairProbe {
 public:
  // Waits for the functions of what runs by now, 20 s at most. Errors: the kernel refuses, with the reason. A pair that fits no
  // program is a message, not an error.
  static Result<std::unique_ptr<PairProbe>> open(PairOptions options, std::unique_ptr<ElfReader> reader);
  ~PairProbe();
  PairProbe(const PairProbe&) = delete;
  PairProbe& operator=(const PairProbe&) = delete;

  // "uprobe_multi", or "uprobe": a perf event for each function, which takes CAP_SYS_ADMIN (measured on 6.1 and 6.18).
  std::string_view hook() const { return multi_ ? "uprobe_multi" : "uprobe"; }

  // Finds what processes run by now and did not before; lets go of files that nobody runs any more. A file is attached to in
  // look_at_events(), once its functions are known.
  void look_for_programs();
  // The same at once for what processes have mapped since; and lets go of processes that hit a pair too often.
  void look_at_events();
  // Until the functions of every file, and every name that was asked for, are known, but not for longer.
  void settle(Duration at_most) { reader_->settle(at_most); }
  // Readable when look_at_events() has work.
  std::vector<int> event_fds() const;

  // One PAIR record for each process and pair. What is known of processes that are gone is forgotten.
  void collect(MonoTime now, std::uint32_t epoch, const PairOperations::IsAlive& is_alive, RawTick& into);
  // What a person should know, once each: sentences that begin with file and line of the pair.
  std::vector<std::string> take_messages() { return std::exchange(messages_, {}); }
  // Pairs that are attached somewhere, or could still be.
  std::size_t usable() const;

 private:
  struct DestroySkeleton {
    void operator()(pairs_bpf* skeleton) const { pairs_bpf__destroy(skeleton); }
  };
  struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };
  // Where a pair's probes are in one file, and what holds them there: by process, 0 for all of them.
  struct Attached {
    std::vector<PairLinks::Function> functions;
    std::vector<PairLinks::Usdt> usdts;
    std::map<std::uint32_t, PairLinks> links;
  };
  struct Pair {
    PairSpec spec;
    std::map<FileId, Attached> files;
    std::set<std::uint32_t> spared;  // processes that hit it too often
    bool by_process = false;         // since the first of them
    bool refuses_processes = false;  // the kernel does, by now: privileges are gone
    bool refused = false;            // it is wrong, not only absent
    bool stopped = false;            // detached for good
    bool is_anybodys() const { return spec.binary == "*"; }
  };
  struct Seen {
    FileId id;               // of the file itself; none where no pair wants it
    std::uint64_t look = 0;  // the latest that saw it
  };

  PairProbe(PairOptions options, std::unique_ptr<ElfReader> reader);
  Result<void> load();
  Result<void> listen();
  bool wants_libraries() const;
  Libraries libraries() const;
  void consider(const ProgramFile& file);
  bool read_new(const ProgramFile& file);
  void attach_new(const ProgramFile& file, const OpenProgram& program, const Result<FileFunctions>& functions);
  void attach_to_process(Pair& pair, const FileId& id, const ProgramFile& file);
  Result<std::optional<Attached>> attach(std::size_t number, const std::string& name, const OpenProgram& program,
                                         const FileFunctions& functions, std::uint32_t tgid);
  Result<bool> find(Attached& to, std::size_t number, std::uint32_t role, const ProbeSpec& probe, const std::string& name,
                    const FileFunctions& functions);
  Result<void> link(Attached& to, const std::string& path, std::uint32_t tgid);
  Result<std::uint64_t> cookie_of(std::size_t number, const ProbeSpec& probe, std::uint32_t role, identify::CallingConvention convention);
  void spare(const laggard_pair_stop& stop);
  bool probe_by_process(std::size_t number);
  void say(const PairSpec& spec, std::uint32_t line, const std::string& what);

  PairOptions options_;
  std::unique_ptr<ElfReader> reader_;
  std::unique_ptr<pairs_bpf, DestroySkeleton> skeleton_;
  std::unique_ptr<ring_buffer, FreeRing> stops_;
  std::unique_ptr<MapWatch> maps_;  // null: the kernel refuses
  std::unique_ptr<PairOperations> operations_;
  bool multi_ = false;
  bool proc_is_the_hosts_ = true;
  bool sees_others_ = true;
  bool left_some_ = false;  // files of the latest look, for another one: too many were read
  std::vector<Pair> pairs_;
  std::map<std::tuple<FileId, std::string, bool>, Seen> seen_;  // by what stat() says, the name, and whether it is a library
  std::uint64_t looks_ = 0;
  std::map<std::pair<const ProbeSpec*, identify::CallingConvention>, std::uint64_t> cookies_;
  std::vector<laggard_pair_stop> too_often_;
  std::set<std::uint32_t> mapped_something_;                      // processes, since the latest look at events
  std::set<std::pair<std::uint64_t, std::uint64_t>> known_files_;  // device and inode of what was mapped
  std::vector<std::string> messages_;
  std::set<std::string> said_;
};

}  // namespace laggard::source::live
