// SPDX-License-Identifier: MIT
// http loses|owns PORT REGISTRY_PORT
//
// A service that starts its HTTP server and, while the port is in use, tries again every 15 ms. Another thread follows a
// registry of services, and keeps nothing of what that says.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "server.h"

namespace http_server {

// As in Swoole's src/wrapper/http.cc: when there is no port for it, nobody has the server.
std::shared_ptr<Server> listen_losing(std::uint16_t port)
{
  Server* server = new Server();
  if (!server->add_port(port))
    return nullptr;
  return std::shared_ptr<Server>(server);
}

std::shared_ptr<Server> listen_owning(std::uint16_t port)
{
  auto server = std::make_unique<Server>();
  if (!server->add_port(port))
    return nullptr;
  return server;
}

}  // namespace http_server

namespace {

void follow(std::uint16_t registry_port)
{
  const int registry = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(registry_port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(registry, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    std::exit(1);
  std::array<char, 4096> news;
  while (recv(registry, news.data(), news.size(), 0) > 0) {
  }
  std::exit(1);
}

std::uint16_t port_of(const char* text)
{
  return static_cast<std::uint16_t>(std::atoi(text));
}

}  // namespace

int main(int argc, char** argv)
{
  using namespace std::chrono_literals;
  if (argc != 4)
    return 2;
  const auto listen = std::strcmp(argv[1], "loses") == 0 ? http_server::listen_losing : http_server::listen_owning;
  std::thread{follow, port_of(argv[3])}.detach();
  std::shared_ptr<Server> server;
  for (int attempts = 1; !(server = listen(port_of(argv[2]))); attempts++) {
    if (attempts == 10) {
      std::puts("ready");
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(15ms);
  }
  std::puts("listens");
}
