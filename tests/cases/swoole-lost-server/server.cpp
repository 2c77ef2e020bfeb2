// SPDX-License-Identifier: MIT
#include "server.h"

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <new>

namespace {

constexpr std::size_t kConnectionsBytes = 40 * 1024;
constexpr std::size_t kWorkers = 4;
constexpr std::size_t kSendBufferBytes = 5 * 1024;

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes)
    : address_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)), bytes_(bytes)
{
  if (address_ == MAP_FAILED)
    throw std::bad_alloc{};
  std::memset(address_, 0xff, bytes_);  // no connection
}

SharedMemory::~SharedMemory()
{
  munmap(address_, bytes_);
}

Server::Server() : send_buffers_(kWorkers, std::string(kSendBufferBytes, ' ')), connections_(kConnectionsBytes) {}

Server::~Server()
{
  if (listener_ >= 0)
    close(listener_);
}

bool Server::add_port(std::uint16_t port)
{
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0)
    return false;
  const int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, 512) != 0) {
    close(listener);
    return false;
  }
  listener_ = listener;
  return true;
}
