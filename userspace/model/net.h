// SPDX-License-Identifier: MIT
// Names of things: sockets, processes, addresses.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace laggard::model {

enum class Transport : std::uint8_t { Tcp, Udp };

// include/net/tcp_states.h. An unconnected UDP socket is CLOSE, a connected one ESTABLISHED.
enum class TcpState : std::uint8_t {
  Established = 1, SynSent, SynRecv, FinWait1, FinWait2, TimeWait, Close, CloseWait, LastAck, Listen, Closing,
};

struct Address {
  std::array<std::uint8_t, 16> bytes{};  // network order; IPv4 in the first four, the rest 0
  bool is_ipv6 = false;                  // never true for an IPv4-mapped address: decode unmaps
  auto operator<=>(const Address&) const = default;
  bool is_unspecified() const { return bytes == std::array<std::uint8_t, 16>{}; }
};

struct Endpoint {
  Address address;
  std::uint16_t port = 0;  // host order
  auto operator<=>(const Endpoint&) const = default;
};

struct Tuple {
  Endpoint local;
  Endpoint peer;
  auto operator<=>(const Tuple&) const = default;
  Tuple reversed() const { return {peer, local}; }
};

// A pid alone is reused; with the start time it is an identity.
struct ProcessId {
  std::uint32_t tgid = 0;      // in the initial pid namespace; 0 = nobody
  std::uint64_t start_ns = 0;  // since boot
  auto operator<=>(const ProcessId&) const = default;
  explicit operator bool() const { return tgid != 0; }
};

std::string to_string(const Address& address);    // "10.0.0.7", "fd00::1", "*" where unspecified
std::string to_string(const Endpoint& endpoint);  // "10.0.0.7:80", "[fd00::1]:80", "*:80"
std::string to_string(const Tuple& tuple);        // "10.0.0.7:80>10.0.0.9:40001", local first
std::string_view to_string(Transport transport);  // "tcp"
std::string_view to_string(TcpState state);       // RFC 9293 in lower case: "close_wait", "fin_wait_2"

// FNV-1a over bytes: the tables it serves are small and their keys are not chosen by an adversary for us to loop on.
std::size_t hash_bytes(const void* data, std::size_t size, std::size_t seed = 14695981039346656037ULL);

}  // namespace laggard::model

template <>
struct std::hash<laggard::model::ProcessId> {
  std::size_t operator()(const laggard::model::ProcessId& id) const noexcept
  {
    return std::hash<std::uint64_t>{}(id.start_ns * 0x9e3779b97f4a7c15ULL ^ id.tgid);
  }
};
