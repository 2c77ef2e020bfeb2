// SPDX-License-Identifier: MIT
#include "identify/community_id.h"

#include <netinet/in.h>
#include <nettle/base64.h>
#include <nettle/sha1.h>

#include <array>

namespace laggard::identify {

std::string community_id(model::Transport transport, const model::Tuple& tuple)
{
  if (tuple.peer.port == 0 && tuple.peer.address.is_unspecified())
    return {};
  const bool swap = tuple.peer < tuple.local;  // by address, then port, as the specification orders them
  const model::Endpoint& first = swap ? tuple.peer : tuple.local;
  const model::Endpoint& second = swap ? tuple.local : tuple.peer;
  const std::size_t address_bytes = first.address.is_ipv6 ? 16 : 4;

  sha1_ctx hash;
  sha1_init(&hash);
  const auto put = [&hash](const std::uint8_t* bytes, std::size_t size) { sha1_update(&hash, size, bytes); };
  const auto put_number = [&put](std::uint16_t number) {
    const std::array<std::uint8_t, 2> bytes = {static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)};
    put(bytes.data(), bytes.size());
  };
  put_number(0);  // the seed
  put(first.address.bytes.data(), address_bytes);
  put(second.address.bytes.data(), address_bytes);
  const std::array<std::uint8_t, 2> protocol = {transport == model::Transport::Udp ? std::uint8_t{IPPROTO_UDP} : std::uint8_t{IPPROTO_TCP}, 0};
  put(protocol.data(), protocol.size());
  put_number(first.port);
  put_number(second.port);
  std::array<std::uint8_t, SHA1_DIGEST_SIZE> digest{};
  sha1_digest(&hash, digest.size(), digest.data());

  std::array<char, BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE)> text{};
  base64_encode_raw(text.data(), digest.size(), digest.data());
  return "1:" + std::string(text.data(), text.size());
}

}  // namespace laggard::identify
