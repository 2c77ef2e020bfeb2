// SPDX-License-Identifier: MIT
// A server as Swoole has them: its tables are shared with the workers that it will fork.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

 private:
  void* address_;
  std::size_t bytes_;
};

class Server {
 public:
  Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  bool add_port(std::uint16_t port);  // false: it is in use

 private:
  std::vector<std::string> send_buffers_;
  SharedMemory connections_;
  int listener_ = -1;
};
