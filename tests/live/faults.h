// SPDX-License-Identifier: MIT
// What the fault tests share. Each injects a fault for real, and prints a row of the fault table: what was injected, what was
// lost, what was said. The table: build/test_live --gtest_filter='Faults.*' | sed -n 's/^FAULT //p'
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>

#include "live/harness.h"

namespace laggard::test {

class Faults : public testing::Test {
 protected:
  void SetUp() override;
  // Emulated machines are too slow for what needs many connections or processes.
  static bool is_quick();
  static void row(const std::string& injected, const std::string& lost, const std::string& said);
};

std::string load_program();

// A child that does `body` with its name and ends with it or with us; it is killed at the end of its life.
class Player {
 public:
  Player(const char* name, const std::function<void()>& body);
  ~Player();
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;
  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_ = -1;
};

// Counters that children share with us.
struct Shared {
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> failed{0};
};
Shared& make_shared_counters();  // never freed: a test process ends with its test

// A network namespace of its own for this process, with its loopback up.
bool enter_network();
// Sockets with something unread, not closed; -1: errno says why.
int unread_datagram();
int unread_stream();  // both ends are this process's

// The first degraded line with a message like this.
std::optional<Json> wait_for_degraded(Observer& laggard, const std::string& message, double seconds = kDeadlineSeconds);
std::uint64_t rss_bytes(std::uint32_t pid);

}  // namespace laggard::test
