// SPDX-License-Identifier: MIT
// Tells when a process maps a file executable: a program that starts, a library that is loaded later. The kernel's own side
// channel (PERF_RECORD_MMAP2), no probe.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace laggard::source::live {

class MapWatch {
 public:
  // A file on the device and inode; `name` as the kernel has it, empty of none.
  struct Mapped {
    std::uint32_t tgid = 0;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::string_view name;
  };
  using Found = std::function<void(const Mapped&)>;

  // Errors: the kernel refuses (CAP_PERFMON).
  static Result<std::unique_ptr<MapWatch>> open(Found found);

  // Readable when there is something to take.
  int fd() const { return perf_buffer__epoll_fd(buffer_.get()); }
  void take() { perf_buffer__consume(buffer_.get()); }

 private:
  struct Free {
    void operator()(perf_buffer* buffer) const { perf_buffer__free(buffer); }
  };
  static bpf_perf_event_ret on_record(void* watch, int cpu, perf_event_header* record);

  explicit MapWatch(Found found) : found_(std::move(found)) {}

  Found found_;
  Fd map_;  // libbpf reads a perf buffer by a map of its descriptors
  std::unique_ptr<perf_buffer, Free> buffer_;
};

}  // namespace laggard::source::live
