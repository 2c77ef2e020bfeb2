// SPDX-License-Identifier: MIT
// A directory to stand for "/", gone with the test.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/time.h"

namespace laggard::test {

class TemporaryRoot {
 public:
  explicit TemporaryRoot(const std::filesystem::path& where = std::filesystem::temp_directory_path())
  {
    std::string name = (where / "laggard-root-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryRoot(const TemporaryRoot&) = delete;
  TemporaryRoot& operator=(const TemporaryRoot&) = delete;
  ~TemporaryRoot() { std::filesystem::remove_all(path_); }

  std::string path() const { return path_.string(); }
  void directory(const std::string& path) const { std::filesystem::create_directories(path_ / path); }
  void file(const std::string& path, const std::string& text = "") const
  {
    directory(std::filesystem::path(path).parent_path());
    std::ofstream(path_ / path) << text;
  }
  void link(const std::string& path, const std::string& target) const
  {
    directory(std::filesystem::path(path).parent_path());
    std::filesystem::create_symlink(target, path_ / path);
  }
  void remove(const std::string& path) const { std::filesystem::remove_all(path_ / path); }
  // As if nobody had changed it for a day.
  void rests(const std::string& path) const
  {
    std::filesystem::last_write_time(path_ / path,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(24));
  }
  std::uint64_t inode(const std::string& path) const
  {
    struct stat status {};
    return ::stat((path_ / path).c_str(), &status) == 0 ? status.st_ino : 0;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace laggard::test
