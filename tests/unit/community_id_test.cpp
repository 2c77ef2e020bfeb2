// SPDX-License-Identifier: MIT
#include "identify/community_id.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace laggard::identify {
namespace {

using model::Transport;

model::Endpoint endpoint(const char* address, std::uint16_t port)
{
  model::Endpoint result;
  result.port = port;
  result.address.is_ipv6 = inet_pton(AF_INET, address, result.address.bytes.data()) != 1;
  if (result.address.is_ipv6) {
    EXPECT_EQ(inet_pton(AF_INET6, address, result.address.bytes.data()), 1) << address;
  }
  return result;
}

// The vectors of the specification's reference implementation.
TEST(CommunityId, IsThatOfTheSpecificationFromBothEnds)
{
  const struct {
    Transport transport;
    model::Tuple tuple;
    const char* id;
  } vectors[] = {
      {Transport::Tcp, {endpoint("128.232.110.120", 34855), endpoint("66.35.250.204", 80)}, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
      {Transport::Udp, {endpoint("192.168.1.52", 54585), endpoint("8.8.8.8", 53)}, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
      {Transport::Tcp,
       {endpoint("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943), endpoint("2607:f8b0:400c:c03::1a", 25)},
       "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
  };
  for (const auto& vector : vectors) {
    EXPECT_EQ(community_id(vector.transport, vector.tuple), vector.id);
    EXPECT_EQ(community_id(vector.transport, vector.tuple.reversed()), vector.id);
  }
}

TEST(CommunityId, ASocketWithoutAPeerHasNone)
{
  EXPECT_EQ(community_id(Transport::Udp, {endpoint("0.0.0.0", 53), {}}), "");
}

}  // namespace
}  // namespace laggard::identify
