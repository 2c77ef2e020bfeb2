// SPDX-License-Identifier: MIT
#include "model/net.h"

#include <fmt/format.h>

#include <cassert>

namespace laggard::model {
namespace {

// RFC 5952: the longest run of two or more zero groups becomes "::", the first of equals.
std::string ipv6_text(const std::array<std::uint8_t, 16>& bytes)
{
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < 8; i++)
    groups[i] = static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
  std::size_t best = 8, best_length = 1;
  for (std::size_t i = 0; i < 8; i++) {
    std::size_t length = 0;
    while (i + length < 8 && groups[i + length] == 0)
      length++;
    if (length > best_length) {
      best = i;
      best_length = length;
    }
  }
  std::string text;
  for (std::size_t i = 0; i < 8; i++) {
    if (i == best) {
      text += "::";
      i += best_length - 1;
      continue;
    }
    if (!text.empty() && text.back() != ':')
      text += ':';
    fmt::format_to(std::back_inserter(text), "{:x}", groups[i]);
  }
  return text;
}

}  // namespace

std::string to_string(const Address& address)
{
  if (address.is_unspecified())
    return "*";
  if (address.is_ipv6)
    return ipv6_text(address.bytes);
  return fmt::format("{}.{}.{}.{}", address.bytes[0], address.bytes[1], address.bytes[2], address.bytes[3]);
}

std::string to_string(const Endpoint& endpoint)
{
  const std::string address = to_string(endpoint.address);
  return endpoint.address.is_ipv6 && !endpoint.address.is_unspecified() ? fmt::format("[{}]:{}", address, endpoint.port)
                                                                        : fmt::format("{}:{}", address, endpoint.port);
}

std::string to_string(const Tuple& tuple) { return to_string(tuple.local) + '>' + to_string(tuple.peer); }

std::string_view to_string(Transport transport) { return transport == Transport::Tcp ? "tcp" : "udp"; }

std::string_view to_string(TcpState state)
{
  switch (state) {
    case TcpState::Established: return "established";
    case TcpState::SynSent: return "syn_sent";
    case TcpState::SynRecv: return "syn_received";
    case TcpState::FinWait1: return "fin_wait_1";
    case TcpState::FinWait2: return "fin_wait_2";
    case TcpState::TimeWait: return "time_wait";
    case TcpState::Close: return "closed";
    case TcpState::CloseWait: return "close_wait";
    case TcpState::LastAck: return "last_ack";
    case TcpState::Listen: return "listen";
    case TcpState::Closing: return "closing";
  }
  return "unknown";
}

std::size_t hash_bytes(const void* data, std::size_t size, std::size_t seed)
{
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < size; i++)
    seed = (seed ^ bytes[i]) * 1099511628211ULL;
  return seed;
}

}  // namespace laggard::model
