// SPDX-License-Identifier: MIT
// Directories below a root whose contents others write: any names, any number, any links.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/time.h"

namespace laggard::identify {

// Of `path` (absolute) below `root`; "/" is the root that there is. Below another one, links do not lead out of it.
Fd open_below(const std::string& root, const std::string& path, int flags);

// Calls visit(name, d_type) in the order of the file system, without "." and "..", until it returns false.
// False: it cannot be read, or not to its end.
bool visit_entries(int directory, const std::function<bool(std::string_view, unsigned char)>& visit);

// A directory whose names are read again only if they may have changed, and never so often that it costs more than
// about a hundredth of a processor. It is held open: its names can still be read after privileges were dropped.
class WatchedDirectory {
 public:
  static constexpr std::size_t kMaxEntries = 1U << 18;  // read of it at once
  static constexpr std::size_t kFreeEntries = 1000;     // so few may be read at any time
  static constexpr Duration kPausePerEntry{100'000};    // reading and keeping one takes about 1 us

  WatchedDirectory(std::string root, std::string path);

  // There may be names that the last read() did not bring, and it may be read again.
  bool is_due(MonoTime now);
  void read(MonoTime now, const std::function<void(std::string_view name)>& visit);
  // The visitor could not keep every name: read() may bring another one although nothing has changed.
  void was_too_large() { stamp_is_final_ = false; }
  int fd() const { return fd_.get(); }  // -1: there is none, or not for us

 private:
  struct Stamp {
    ::dev_t device = 0;
    ::ino_t inode = 0;
    timespec changed{};
    bool operator==(const Stamp& other) const
    {
      return device == other.device && inode == other.inode && changed.tv_sec == other.changed.tv_sec &&
             changed.tv_nsec == other.changed.tv_nsec;
    }
  };
  static Stamp stamp_of(int fd);
  void open_again_if_replaced();

  std::string root_;
  std::string path_;
  Fd fd_;
  Stamp stamp_;                  // when it was read
  bool stamp_is_final_ = false;  // a later change would have given it another one
  MonoTime not_before_;
};

}  // namespace laggard::identify
