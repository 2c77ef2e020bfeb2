// SPDX-License-Identifier: MIT
// fuzz_seeds DIRECTORY: what the fuzzers begin with, in DIRECTORY/cgroup, /decode, /recording and /units.
#include <netinet/in.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "source/recording.h"
#include "support/wire.h"

int main(int argc, char** argv)
{
  using namespace laggard;
  namespace fs = std::filesystem;
  if (argc != 2)
    return 2;
  const fs::path root = argv[1];
  for (const char* folder : {"cgroup", "decode", "recording", "units"})
    fs::create_directories(root / folder);

  laggard_tick_record tick{};
  tick.mono_ns = 1'000'000'000'000, tick.page_bytes = 4096, tick.coverage = 7;
  laggard_socket_record socket{};
  socket.cookie = 1, socket.mono_ns = tick.mono_ns, socket.family = AF_INET, socket.protocol = IPPROTO_TCP, socket.state = 1;
  socket.flags = LAGGARD_F_HAS_FILE | LAGGARD_F_SEEDED;
  socket.owner_tgid = 17, socket.unread_bytes = 700, socket.rcv_nxt = 1700, socket.copied_seq = 1000;
  laggard_socket_record closing = socket;
  closing.cookie = 2, closing.state = 8, closing.peer_closed_ns = 1;
  laggard_socket_record datagrams = socket;
  datagrams.cookie = 3, datagrams.protocol = IPPROTO_UDP, datagrams.state = 7, datagrams.family = AF_INET6;
  laggard_holder_record holder{};
  holder.cookie = 1, holder.tgid = 17;
  laggard_process_record process{};
  process.tgid = 17, process.anon_pages = 1000, process.read_bytes = 1 << 20;
  tick.coverage |= LAGGARD_COVERS_POOLED | LAGGARD_CAN_ATTRIBUTE;
  laggard_pooled_record pooled{};
  pooled.cookie = 5, pooled.owner_tgid = 17, pooled.idle_since_ns = tick.mono_ns - 1, pooled.family = AF_INET;
  pooled.flags = LAGGARD_F_CONNECTED;
  laggard_pooled_record another = pooled;
  another.cookie = 7, another.opened_ns = 1;
  laggard_growth_record growth{};
  growth.tgid = 17, growth.begin_ns = tick.mono_ns - 5'000'000'000, growth.end_ns = tick.mono_ns, growth.cookie = 1;
  growth.kernel_pages = 1000, growth.memory_limit_bytes = 1 << 30, growth.flags = LAGGARD_GROWTH_COMPLETE;
  laggard_growth_record other_growth = growth;
  other_growth.cookie = 0, other_growth.user_pages = 100;
  laggard_pair_record pair{};
  pair.tgid = 17, pair.mono_ns = tick.mono_ns, pair.begun = 1000, pair.ended = 970, pair.outstanding = 30;
  pair.oldest_begin_ns = tick.mono_ns - 200'000'000'000, pair.last_end_ns = tick.mono_ns;
  for (__u32& count : pair.overtaken)
    count = 1;
  std::snprintf(pair.name, sizeof pair.name, "send");
  std::snprintf(pair.stack, sizeof pair.stack, "foo_send\nmain");
  const source::RawTick ticks[] = {test::raw_tick(tick), test::raw_tick(tick, socket, closing, datagrams),
                                   test::raw_tick(tick, laggard_gone_record{{}, 1, 2}, holder, process),
                                   test::raw_tick(tick, socket, closing, datagrams, holder, process),
                                   test::raw_tick(tick, socket, holder, process, pooled, another),
                                   test::raw_tick(tick, socket, process, growth, other_growth),
                                   test::raw_tick(tick, process, pair)};
  int number = 0;
  for (const source::RawTick& raw : ticks)
    std::ofstream(root / "decode" / std::to_string(number++), std::ios::binary)
        .write(reinterpret_cast<const char*>(raw.data()), static_cast<std::streamsize>(raw.size()));

  auto writer = source::RecordingWriter::create((root / "recording" / "ticks").string(), {});
  if (!writer) {
    std::fprintf(stderr, "%s\n", writer.error().message().c_str());
    return 1;
  }
  for (const source::RawTick& raw : ticks)
    if (!(*writer)->write(raw))
      return 1;

  const std::string id = "27e395e006c78c94c556be5c293fb1cac0abee7ad3f402a18c97a8a601c00b89";
  const std::string uid = "0f1e2d3c-1111-2222-3333-444455556666";
  const std::string slice = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0f1e2d3c_1111_2222_3333_444455556666.slice";
  for (const std::string& text : {
           "/kubepods/burstable/pod" + uid + "/" + id, slice + "/cri-containerd-" + id + ".scope",
           slice + "/crio-" + id + ".scope/container", slice + "/crio-conmon-" + id + ".scope",
           "/system.slice/containerd.service" + slice.substr(slice.rfind('/')) + ":cri-containerd:" + id,
           "/system.slice/docker-" + id + ".scope/kubelet/kubepods/pod5e9bb5c3aa1f36ee3f10b0ea1df2a29b/" + id,
           "/docker/" + id, "/libpod_parent/libpod-" + id, "/../../pod" + uid + "/" + id,
           std::string("/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service"),
           "9:name=systemd:/\n8:pids:/docker/" + id + "\n2:cpu,cpuacct:/\n0::/system.slice/containerd.service\n",
           "0::/docker/" + id + " (deleted)\n", "shop_cart_" + uid, "cart_shop_web-" + id + ".log"})
    std::ofstream(root / "cgroup" / std::to_string(number++)) << text;
  for (const char* text : {"500ms", "1h30m", "1.5s", "64KiB", "10MB", "50%", "0.5", "999999999999999999d"})
    std::ofstream(root / "units" / std::to_string(number++)) << text;
  return 0;
}
