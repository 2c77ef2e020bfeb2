// SPDX-License-Identifier: MIT
// How a kernel attaches the probes of --pairs to a file: one uprobe_multi link (since 6.6), or a perf event for each function.
#pragma once

#include <bpf/libbpf.h>
#include <laggard/abi/pairs.h>  // the skeleton needs its types

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "pairs.skel.h"

namespace laggard::source::live {

// Detached when it is destroyed.
class PairLinks {
 public:
  // include/uapi/linux/bpf.h since 6.6: the attach type of a program for uprobe_multi; libbpf 1.1 has no words for it.
  static constexpr auto kTraceUprobeMulti = static_cast<bpf_attach_type>(48);
  static bool has_uprobe_multi(int program);

  struct Function {
    std::uint64_t offset = 0;  // in the file
    std::uint64_t cookie = 0;
    bool at_return = false;    // at the entry, too
  };
  struct Usdt {
    std::string provider, name;
    std::uint64_t cookie = 0;
  };

  PairLinks(pairs_bpf& skeleton, bool multi) : skeleton_(&skeleton), multi_(multi) {}

  // Of one process, or tgid 0: of all. Errors: a clause that follows the file's name.
  Result<void> attach(const std::string& path, std::span<const Function> functions, std::uint32_t tgid);
  // libbpf reads the notes of the file for it, in this process: only of one in which an ElfReader has found the probe, and never
  // where the kernel would refuse it, which is so once the privileges are given up. False: the file has no such probe.
  Result<bool> attach(const std::string& path, const Usdt& probe, std::uint32_t tgid);

 private:
  struct Destroy {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  Result<void> attach_multi(const std::string& path, std::span<const Function> functions, bool at_return, std::uint32_t tgid);
  Result<void> attach_one(const std::string& path, const Function& function, bool at_return, std::uint32_t tgid);

  pairs_bpf* skeleton_;
  bool multi_;
  std::vector<std::unique_ptr<bpf_link, Destroy>> links_;
  std::vector<Fd> multi_links_;
};

}  // namespace laggard::source::live
