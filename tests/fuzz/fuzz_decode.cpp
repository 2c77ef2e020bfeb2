// SPDX-License-Identifier: MIT
// Any bytes as a tick; what decodes goes on to the model and to every rule, three times, 20 s apart.
#include <cstddef>
#include <cstdint>

#include "detect/detector.h"
#include "source/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
  using namespace laggard;
  auto tick = source::decode({reinterpret_cast<const std::byte*>(data), size});
  if (!tick)
    return 0;
  model::Model model{{}};
  detect::Detector detector{{}};
  for (int i = 0; i < 3; i++) {
    model.apply(*tick);
    for (const detect::Finding& finding : detector.evaluate(model))
      if (finding.process.id.tgid != 0 && finding.message.empty())
        __builtin_trap();
    tick->time += std::chrono::seconds(20);
    for (model::SocketSample& socket : tick->sockets) {
      socket.time += std::chrono::seconds(20);
      socket.copied_seq += 3;
      socket.reads++;
    }
    for (model::ProcessSample& process : tick->processes)
      process.anon_bytes += 10 << 20;
  }
  detector.finish(model);
  return 0;
}
