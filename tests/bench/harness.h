// SPDX-License-Identifier: MIT
// What the benchmarks share.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace laggard::bench {

// Both ends of one connection over loopback.
struct Pair {
  Fd reader, writer;
};

// A listening socket and where it listens.
struct Listener {
  Fd fd;
  sockaddr_in address{};
};

inline Listener listen_on_loopback(int backlog)
{
  Listener listener{Fd{::socket(AF_INET, SOCK_STREAM, 0)}, {}};
  sockaddr_in& address = listener.address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), length);
  ::listen(listener.fd.get(), backlog);
  ::getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return listener;
}

inline Pair connect_pair()
{
  const Listener listener = listen_on_loopback(1);
  Fd writer{::socket(AF_INET, SOCK_STREAM, 0)};
  if (::connect(writer.get(), reinterpret_cast<const sockaddr*>(&listener.address), sizeof listener.address) != 0)
    std::abort();
  return {Fd{::accept(listener.fd.get(), nullptr, nullptr)}, std::move(writer)};
}

// Other tenants of the machine only ever add time: the lower quartile is steadier than the median, and as fair to all.
inline double quartile(std::vector<double> values)
{
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 4), values.end());
  return values[values.size() / 4];
}

}  // namespace laggard::bench
