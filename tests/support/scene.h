// SPDX-License-Identifier: MIT
// A host on virtual time: sockets that are sent to and read from, processes that grow, and what the kernel side would
// tell of them once per interval. Ticks go through a Model and a Detector; their findings are collected.
//
//   Scene scene;
//   SceneProcess& viewer = scene.process(4121, "viewer");
//   SceneSocket& socket = scene.tcp(viewer);
//   socket.arrives(60e6).reads(12, 450'000);
//   scene.run(30s);
//   EXPECT_EQ(scene.opened(detect::Kind::SlowReader).size(), 1U);
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "detect/detector.h"
#include "model/model.h"
#include "model/tick.h"

namespace laggard::test {

using namespace std::chrono_literals;

class Scene;
class SceneSocket;

// What an attribution would say of a process's growth: these parts of it came with this socket, the rest with none.
struct SceneShare {
  const SceneSocket* socket = nullptr;
  double kernel = 0;    // filled within reads
  double user = 0;      // touched after reads
  double reads = 0;     // a second, of as many bytes as the process read meanwhile
  double answered = 0;  // this part of them
};

struct SceneProcess {
  model::ProcessId id;
  std::string comm;
  std::uint64_t cgroup_id = 0;
  std::uint64_t exe_inode = 0;  // 0: unknown
  // Bytes by seconds since the scene began.
  std::function<double(double)> anon_bytes = [](double) { return 10e6; };
  std::function<double(double)> shmem_bytes = [](double) { return 0.0; };
  std::uint64_t read_bytes = 0;  // of all its sockets, as bpf/ totals them
  std::vector<SceneShare> grows_with;
  std::function<double(double)> mapped_bytes;  // absent: as much as is resident
  bool uses_sockets = false;
  std::uint32_t threads = 0;     // 0 = unknown
  bool waits_in_epoll = false;   // its first thread
};

// One socket: what the kernel knows of it and bpf/reads.bpf.c keeps of it. Arrivals and reads are simulated in steps of
// 10 ms: first what arrives, as far as the window allows, then the reads that are due.
class SceneSocket {
 public:
  // ---- what goes on by itself; may be changed between two runs ----
  SceneSocket& arrives(double bytes_per_second);                        // UDP: in datagrams of `read_bytes`
  SceneSocket& reads(std::uint32_t bytes, double times_per_second);     // a blocking reader: nothing there, no read
  SceneSocket& drains(std::uint32_t bytes, double times_per_second);    // wakes up and reads until EAGAIN
  SceneSocket& sends(double bytes_per_second);                          // what the peer takes at once
  SceneSocket& window(std::uint32_t bytes);                             // what the receive queue may hold

  // ---- what happens now ----
  void arrive(std::uint32_t bytes);
  void arrive_datagrams(std::uint32_t count, std::uint32_t bytes);
  void read(std::uint32_t bytes, std::uint64_t times = 1);
  void read_nothing();             // EAGAIN
  void splice(std::uint32_t bytes);  // consumes without a read
  void send(std::uint32_t bytes, bool acknowledged = true);
  void peer_closes();  // a FIN
  void read_eof();
  void shut_down();    // our FIN, acknowledged
  void orphan();       // the last descriptor was closed
  void loses_peer();   // from now on nothing of what is sent is acknowledged, and the retransmission timer runs
  void peer_answers(); // it acknowledges everything, a keepalive probe as well
  void is_reset();     // by the peer; whoever holds it holds it on

  model::FullSample sample;              // all of it may be edited; keep rcv_nxt, copied_seq and unread_bytes consistent
  std::vector<model::ProcessId> holders;
  SceneSocket* peer = nullptr;           // the other end on this host: see Scene::connect
  std::uint32_t window_bytes = 128 << 10;
  MonoTime last_sent;

  SceneSocket(Scene& scene, SceneProcess* reader, MonoTime now) : scene_(&scene), reader_(reader), known_since_(now) {}

 private:
  friend class Scene;
  void step(double seconds);
  void begin_epoch();
  void count_reads(std::uint32_t bytes, std::uint64_t times);
  void update_window();
  void update_leftover();
  void run_timer();
  bool is_interesting() const;
  bool is_pooled() const;
  model::PooledSample pooled() const;

  Scene* scene_;
  SceneProcess* reader_;
  double arrival_rate_ = 0, read_rate_ = 0, send_rate_ = 0;
  std::uint32_t read_size_ = 0;
  bool drains_ = false;
  double arrivals_due_ = 0, reads_due_ = 0, sends_due_ = 0;
  std::uint64_t announced_drops_ = 0;
  std::optional<std::uint32_t> read_rcv_nxt_;  // as bpf/reads.bpf.c keeps it: with the FIN, after the last read that took some
  MonoTime known_since_;
  bool peer_is_lost_ = false;
  Duration timeout_{};  // of the retransmission timer
  MonoTime times_out_;
};

class Scene {
 public:
  explicit Scene(detect::DetectorOptions options = {}, Duration interval = 1s);
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  SceneProcess& process(std::uint32_t tgid, std::string comm);
  // A connection that `owner` opened, 10.0.0.1:<own port> to 10.0.0.9:80, and that `owner` reads; nobody: nullptr.
  SceneSocket& tcp(SceneProcess& owner);
  SceneSocket& udp(SceneProcess& owner);
  // Makes two ends of one connection of them: what `sender` sends arrives at `receiver` as its window allows.
  static void connect(SceneSocket& sender, SceneSocket& receiver);
  void destroy(SceneSocket& socket);
  void exit(SceneProcess& process);  // and closes nothing: destroy or orphan its sockets yourself

  void run(Duration duration);  // whole intervals, a tick at the end of each
  void run_unobserved(Duration duration);  // one tick, at the end
  void stop();                  // finish(): all open findings are resolved

  MonoTime now() const { return now_; }
  double elapsed_seconds() const { return seconds(now_ - kStart); }
  std::uint32_t epoch() const { return epoch_; }
  const model::Model& model() const { return model_; }
  const detect::Detector& detector() const { return detector_; }

  int attributions = 0;  // begun
  std::function<void(model::Tick&)> alter;  // each tick, before the model gets it
  std::uint32_t first_position = 1'000'003;   // what the sequence numbers of new sockets start at; UDP counts datagrams

  const std::vector<detect::Finding>& findings() const { return findings_; }  // every line so far
  std::vector<detect::Finding> lines(detect::Phase phase) const;
  std::vector<detect::Finding> opened(detect::Kind kind) const;

  // How the source behaves.
  bool walks_holders = true;      // when the detector asks
  bool always_walks_holders = false;
  bool walks_processes = true;
  bool can_attribute = false;     // and does so for --attribution or longer when the detector asks
  std::size_t attributes_at_once = 16;
  double attribution_sees = 1;    // this part of the growth
  std::uint64_t cgroup_limit_bytes = 0, cgroup_headroom_bytes = 0;
  bool looks_at_pools = true;
  int sweep_every_ticks = 1;
  std::uint64_t host_available_bytes = 64ULL << 30;
  std::function<double(double)> host_shmem_bytes = [](double) { return 0.0; };
  model::Losses lost;

 private:
  friend class SceneSocket;
  static constexpr MonoTime kStart{1000s};
  void pass(Duration duration);
  void tick();
  void attribute(model::Tick& tick);

  Duration interval_;
  MonoTime now_ = kStart;
  std::uint32_t epoch_ = 1;
  std::uint64_t ticks_ = 0;
  std::uint16_t next_port_ = 40000;
  std::uint64_t next_cookie_ = 1;
  std::list<SceneProcess> processes_;  // stable addresses
  std::list<SceneSocket> sockets_;
  std::vector<model::FullSample> announced_;
  std::vector<std::uint64_t> gone_;
  bool walk_wanted_ = true;
  struct Attributed {
    detect::Suspect suspect;
    MonoTime since;
    double from_bytes = 0;
    std::uint64_t from_read_bytes = 0;
  };
  double bytes_of(model::ProcessId id);
  std::vector<Attributed> attributed_;
  Duration pools_period_;
  Duration attribution_time_;
  MonoTime pools_due_;
  model::Model model_;
  detect::Detector detector_;
  std::vector<detect::Finding> findings_;
};

model::Endpoint endpoint(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, std::uint16_t port);
// Numbers by name; fails the test and gives 0 where absent or of another type.
double evidence(const detect::Finding& finding, std::string_view name);
bool has_evidence(const detect::Finding& finding, std::string_view name);

}  // namespace laggard::test

// What gtest shows of a finding.
namespace laggard::detect {
void PrintTo(const Finding& finding, std::ostream* out);
}
