// SPDX-License-Identifier: MIT
// The few system calls that a workload needs, as values: descriptors, addresses, what the kernel says about a socket.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace workload {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;

// The environment refused; ends the program with an `error` line and exit code 2.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] void fail_errno(const std::string& what);

class Fd {
 public:
  Fd() = default;
  explicit Fd(int number) : number_(number) {}
  Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd& operator=(Fd&& other) noexcept
  {
    reset(std::exchange(other.number_, -1));
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return number_; }
  bool open() const { return number_ >= 0; }
  void reset(int number = -1);

 private:
  int number_ = -1;
};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }
  std::string text() const;  // "127.0.0.1:80", "[::1]:80"
};

Address loopback(int family, std::uint16_t port);
Address local_address(int fd);
Address peer_address(int fd);  // the any-address where the socket is not connected

bool is_connected(int fd);

Fd make_socket(int family, bool udp, int rcvbuf);
Fd make_listener(const Address& address, int rcvbuf);
void bind_to(int fd, const Address& address);
void connect_to(int fd, const Address& address);
Fd accept_from(int listener);

// What the kernel says now. -1: not available for this socket.
std::int64_t siocinq(int fd);
int tcp_state(int fd);
bool peer_has_closed(int fd);  // FIN or RST has arrived
std::string state_name(int fd);
std::uint64_t socket_cookie(int fd);
std::uint64_t socket_inode(int fd);
struct MemInfo {
  std::int64_t rmem_alloc = -1;
  std::int64_t rcvbuf = -1;
  std::int64_t drops = -1;
};
MemInfo memory_of(int fd);

std::uint64_t netns_inode();
void enter_new_netns();  // with its own lo, up
void drop_to_uid(unsigned uid);
void raise_fd_limit();
void die_with_parent(int parent_tgid);

bool wait_until(Duration deadline, const std::function<bool()>& condition);

// One output line: `word key=value key=value`, written with a single write().
class Line {
 public:
  explicit Line(std::string word = {}) : text_(std::move(word)) {}
  Line& add(const char* key, const std::string& value);
  Line& add(const char* key, const char* value) { return add(key, std::string(value)); }
  template <class Number>
  Line& add(const char* key, Number value)
  {
    return add(key, std::to_string(value));
  }
  Line& append(const Line& other) { return append_text(other.text_); }
  const std::string& text() const { return text_; }
  void print() const;

 private:
  Line& append_text(const std::string& text);
  std::string text_;
};

}  // namespace workload
