// SPDX-License-Identifier: MIT
#include "support/scene.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <ostream>

namespace laggard::test {
namespace {

constexpr Duration kStep = 10ms;
constexpr std::uint32_t kMss = 1448;
constexpr std::uint32_t kTruesize = 768;  // of a small datagram's buffer
constexpr Duration kRtoMin = 200ms, kRtoMax = 120s;  // include/net/tcp.h

std::uint64_t whole(double& due)
{
  const auto count = static_cast<std::uint64_t>(due + 1e-9);
  due -= static_cast<double>(count);
  return count;
}

std::size_t size_bucket(std::uint32_t bytes)
{
  const auto bucket = static_cast<std::size_t>(bytes == 0 ? 0 : std::bit_width(bytes) - 1);
  return std::min(bucket, model::kSizeBuckets - 1);
}

}  // namespace

model::Endpoint endpoint(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, std::uint16_t port)
{
  model::Endpoint result;
  result.address.bytes = {a, b, c, d};
  result.port = port;
  return result;
}

SceneSocket& SceneSocket::arrives(double bytes_per_second)
{
  arrival_rate_ = bytes_per_second;
  return *this;
}

SceneSocket& SceneSocket::reads(std::uint32_t bytes, double times_per_second)
{
  read_size_ = bytes;
  read_rate_ = times_per_second;
  drains_ = false;
  return *this;
}

SceneSocket& SceneSocket::drains(std::uint32_t bytes, double times_per_second)
{
  reads(bytes, times_per_second);
  drains_ = true;
  return *this;
}

SceneSocket& SceneSocket::sends(double bytes_per_second)
{
  send_rate_ = bytes_per_second;
  return *this;
}

SceneSocket& SceneSocket::window(std::uint32_t bytes)
{
  window_bytes = bytes;
  sample.rcvbuf_bytes = 2 * bytes;
  update_window();
  return *this;
}

// The peer learns of new room when it sends, not at each read: that is when a small bite leaves the window shut.
void SceneSocket::update_window()
{
  sample.rcv_window_left = window_bytes - std::min(window_bytes, sample.unread_bytes);
}

void SceneSocket::arrive(std::uint32_t bytes)
{
  update_window();
  bytes = std::min(bytes, sample.rcv_window_left);
  if (bytes == 0)
    return;
  sample.rcv_nxt += bytes;
  sample.unread_bytes += bytes;
  sample.rcv_window_left -= bytes;
  sample.rmem_bytes = 2 * sample.unread_bytes;
  sample.bytes_received += bytes;
  sample.last_arrival = sample.last_ack = scene_->now_;
}

void SceneSocket::arrive_datagrams(std::uint32_t count, std::uint32_t bytes)
{
  read_size_ = bytes;
  const std::uint32_t truesize = bytes + kTruesize;
  const std::uint32_t room = sample.rcvbuf_bytes - std::min(sample.rcvbuf_bytes, sample.unread_bytes);
  const std::uint32_t taken = std::min(count, room / truesize);
  sample.queued_packets += taken;
  sample.rcv_nxt += taken;
  sample.unread_bytes += taken * truesize;
  sample.rmem_bytes = sample.unread_bytes;
  sample.drops += count - taken;
}

// A step first brings and then reads: what comes at a rate has come again by the time that anybody looks.
void SceneSocket::update_leftover()
{
  const double rate = peer != nullptr ? peer->send_rate_ : arrival_rate_;
  const bool comes_again = rate * seconds(kStep) >= 1 && sample.rcv_window_left >= sample.rcv_mss;
  const bool left = !comes_again && read_rcv_nxt_ == sample.rcv_nxt + sample.peer_closed;
  sample.leftover_bytes = left ? sample.unread_bytes : 0;
}

// As begin_epoch() in bpf/reads.bpf.c: the first read of an epoch tells of the previous one. It has taken its bytes by then,
// and counts for the next epoch.
void SceneSocket::begin_epoch()
{
  if (sample.read_epoch == scene_->epoch_)
    return;
  if (sample.read_epoch != 0) {
    sample.time = scene_->now_;
    update_leftover();
    scene_->announced_.push_back(sample);
    scene_->announced_.back().first_read = true;
  }
  sample.min_unread_bytes.reset();
  sample.max_unread_bytes = 0;
  if (reader_ != nullptr) {
    if (!sample.owner)
      sample.owner = reader_->id;
    sample.reader_tgid = reader_->id.tgid;
  }
  sample.read_epoch = scene_->epoch_;
}

void SceneSocket::count_reads(std::uint32_t bytes, std::uint64_t times)
{
  if (bytes != sample.run_bytes) {
    sample.sizes[size_bucket(sample.run_bytes)] += static_cast<std::uint32_t>(sample.run_reads);
    sample.run_bytes = bytes;
    sample.run_reads = 0;
  }
  sample.run_reads += times;
  sample.reads += times;
  sample.read_bytes += bytes * times;
  if (reader_ != nullptr)
    reader_->read_bytes += bytes * times;
}

void SceneSocket::read(std::uint32_t bytes, std::uint64_t times)
{
  while (times > 0 && sample.unread_bytes > 0) {
    if (sample.transport == model::Transport::Udp) {
      begin_epoch();
      sample.last_read = scene_->now_;
      const auto taken = static_cast<std::uint32_t>(std::min<std::uint64_t>(times, sample.queued_packets));
      const std::uint32_t truesize = sample.unread_bytes / sample.queued_packets;
      sample.queued_packets -= taken;
      sample.unread_bytes -= taken * truesize;
      sample.rmem_bytes = sample.unread_bytes;
      sample.copied_seq += taken;
      count_reads(truesize - kTruesize, taken);
      times -= taken;
      continue;
    }
    const std::uint32_t size = std::min(bytes, sample.unread_bytes);
    const bool is_new = sample.read_epoch != scene_->epoch_;
    const auto count = is_new ? 1 : static_cast<std::uint32_t>(std::min<std::uint64_t>(times, sample.unread_bytes / size));
    const bool closed = sample.rcv_window_left < sample.rcv_mss;
    const std::uint32_t before = sample.unread_bytes;
    sample.unread_bytes -= size * count;
    sample.copied_seq += size * count;
    sample.rmem_bytes = 2 * sample.unread_bytes;
    begin_epoch();
    sample.last_read = scene_->now_;
    read_rcv_nxt_ = sample.rcv_nxt + sample.peer_closed;
    sample.max_unread_bytes = std::max(sample.max_unread_bytes, before);
    // Emptiness under a closed window does not qualify, but what the read before it left does.
    std::uint32_t least = sample.unread_bytes;
    if (least == 0 && closed)
      least = count > 1 ? size : std::numeric_limits<std::uint32_t>::max();
    if (least < sample.min_unread_bytes.value_or(std::numeric_limits<std::uint32_t>::max()))
      sample.min_unread_bytes = least;
    if (closed)
      sample.closed_window_reads += count;
    if (sample.peer_closed && sample.unread_bytes == 0)
      sample.eof_eaten = true;
    count_reads(size, count);
    times -= count;
  }
}

void SceneSocket::read_nothing()
{
  begin_epoch();
  sample.last_read = scene_->now_;
  sample.empty_reads++;
  sample.min_unread_bytes = 0;
}

void SceneSocket::splice(std::uint32_t bytes)
{
  bytes = std::min(bytes, sample.unread_bytes);
  sample.unread_bytes -= bytes;
  sample.copied_seq += bytes;
  sample.rmem_bytes = 2 * sample.unread_bytes;
}

void SceneSocket::send(std::uint32_t bytes, bool acknowledged)
{
  if (sample.write_seq == sample.snd_una) {
    timeout_ = kRtoMin;
    times_out_ = scene_->now_ + timeout_;
  }
  sample.write_seq += bytes;
  last_sent = scene_->now_;
  if (acknowledged && !peer_is_lost_) {
    sample.snd_una = sample.write_seq;
    sample.bytes_acked += bytes;
    sample.last_ack = scene_->now_;
  }
}

// As tcp_retransmit_timer() in net/ipv4/tcp_timer.c.
void SceneSocket::run_timer()
{
  if (!peer_is_lost_ || sample.write_seq == sample.snd_una)
    return;
  while (times_out_ <= scene_->now_) {
    sample.retransmits++;
    timeout_ = std::min(timeout_ * 2, kRtoMax);
    times_out_ += timeout_;
  }
}

void SceneSocket::loses_peer()
{
  peer_is_lost_ = true;
  timeout_ = kRtoMin;
  times_out_ = scene_->now_ + timeout_;
}

void SceneSocket::peer_answers()
{
  peer_is_lost_ = false;
  sample.bytes_acked += sample.write_seq - sample.snd_una;
  sample.snd_una = sample.write_seq;
  sample.retransmits = sample.probes_unanswered = 0;
  sample.last_ack = scene_->now_;
}

// As tcp_reset(): what was not sent is dropped, what was not read stays.
void SceneSocket::is_reset()
{
  sample.state = model::TcpState::Close;
  sample.reset = true;
  sample.ended_at = scene_->now_;
  sample.write_seq = sample.snd_una;
}

void SceneSocket::peer_closes()
{
  sample.peer_closed = true;
  sample.state = sample.state == model::TcpState::Established ? model::TcpState::CloseWait : model::TcpState::Close;
  sample.peer_closed_at = scene_->now_;
}

void SceneSocket::read_eof()
{
  begin_epoch();
  sample.last_read = scene_->now_;
  sample.eof_seen = true;
}

void SceneSocket::shut_down()
{
  sample.state = model::TcpState::FinWait2;
  sample.shutdown_at = scene_->now_;
}

void SceneSocket::orphan()
{
  holders.clear();
  sample.has_file = false;
  sample.inode = 0;
}

void SceneSocket::step(double seconds)
{
  run_timer();
  if (send_rate_ > 0) {
    sends_due_ += send_rate_ * seconds;
    send(static_cast<std::uint32_t>(whole(sends_due_)), peer == nullptr);
  }
  if (peer != nullptr) {  // take what the other end has to send
    const std::uint32_t before = sample.rcv_nxt;
    arrive(peer->sample.write_seq - peer->sample.snd_una);
    peer->sample.snd_una += sample.rcv_nxt - before;
    peer->sample.bytes_acked += sample.rcv_nxt - before;
    if (peer->sample.write_seq != peer->sample.snd_una)  // our window is all that holds it back
      peer->sample.rwnd_limited += Duration{static_cast<std::int64_t>(seconds * 1e9)};
  } else if (arrival_rate_ > 0) {
    if (sample.transport == model::Transport::Udp) {
      arrivals_due_ += arrival_rate_ * seconds / read_size_;
      arrive_datagrams(static_cast<std::uint32_t>(whole(arrivals_due_)), read_size_);
    } else {
      arrivals_due_ += arrival_rate_ * seconds;
      arrive(static_cast<std::uint32_t>(whole(arrivals_due_)));
    }
  }
  reads_due_ += read_rate_ * seconds;
  const std::uint64_t due = whole(reads_due_);
  if (due == 0)
    return;
  read(read_size_, drains_ ? std::numeric_limits<std::uint64_t>::max() : due);
  if (drains_)
    read_nothing();
}

// As is_interesting() in bpf/sweep.bpf.c.
bool SceneSocket::is_interesting() const
{
  using model::TcpState;
  const TcpState state = sample.state;
  return (sample.read_epoch != 0 && scene_->epoch_ - sample.read_epoch <= 1) || sample.drops != announced_drops_ ||
         sample.unread_bytes > 0 || sample.write_seq != sample.snd_una || state == TcpState::Listen ||
         sample.unaccepted || state == TcpState::CloseWait || state == TcpState::FinWait1 || state == TcpState::FinWait2 ||
         (sample.is_ended() && sample.rcv_nxt != 0);
}

// As is_pooled() in bpf/sweep.bpf.c.
bool SceneSocket::is_pooled() const
{
  if (!sample.has_file)
    return false;
  if (sample.transport == model::Transport::Udp)
    return sample.queued_packets == 0;
  return sample.state == model::TcpState::Established && sample.unread_bytes == 0 && sample.write_seq == sample.snd_una &&
         sample.bytes_received > 0 && sample.bytes_acked > 0;
}

// As fill_pooled() in bpf/sweep.bpf.c. That a UDP socket exists is known once a hook or a sweep has met it.
model::PooledSample SceneSocket::pooled() const
{
  const bool is_udp = sample.transport == model::Transport::Udp;
  model::PooledSample pooled;
  pooled.cookie = sample.cookie;
  pooled.owner = sample.owner;
  pooled.tuple = sample.tuple;
  pooled.netns = sample.netns;
  pooled.connected = sample.connected;
  pooled.accepted = sample.accepted;
  pooled.transport = sample.transport;
  pooled.opened = is_udp && !sample.older_than_observer ? known_since_ : sample.opened;
  pooled.idle_since = is_udp ? std::max(sample.last_read, pooled.opened) : std::max(sample.last_arrival, last_sent);
  if (!is_udp && !sample.connected)
    pooled.idle_since = std::max(pooled.idle_since, sample.last_ack);
  return pooled;
}

Scene::Scene(detect::DetectorOptions options, Duration interval)
    : interval_(interval),
      pools_period_(options.thresholds.idle / 6),
      attribution_time_(options.thresholds.attribution),
      model_(detect::model_options(options.thresholds)),
      detector_(std::move(options))
{
  process(1, "init");
}

SceneProcess& Scene::process(std::uint32_t tgid, std::string comm)
{
  SceneProcess& process = processes_.emplace_back();
  process.id = {tgid, 100'003ULL * tgid};
  process.comm = std::move(comm);
  return process;
}

SceneSocket& Scene::tcp(SceneProcess& owner)
{
  SceneSocket& socket = sockets_.emplace_back(*this, &owner, now_);
  socket.holders = {owner.id};
  model::SocketSample& sample = socket.sample;
  sample.cookie = next_cookie_++;
  sample.inode = 70'000 + sample.cookie;
  sample.state = model::TcpState::Established;
  sample.tuple = {endpoint(10, 0, 0, 1, next_port_++), endpoint(10, 0, 0, 9, 80)};
  sample.netns = 4026531840;
  sample.owner = owner.id;
  sample.connected = true;
  sample.has_file = true;
  sample.opened = now_;
  sample.rcv_nxt = sample.copied_seq = first_position;
  sample.snd_una = sample.write_seq = first_position + 1'000'000;
  sample.rcv_mss = kMss;
  socket.window(socket.window_bytes);
  return socket;
}

SceneSocket& Scene::udp(SceneProcess& owner)
{
  SceneSocket& socket = tcp(owner);
  model::SocketSample& sample = socket.sample;
  sample.transport = model::Transport::Udp;
  sample.state = model::TcpState::Close;
  sample.tuple = {endpoint(0, 0, 0, 0, sample.tuple.local.port), {}};
  sample.connected = false;
  sample.opened = {};
  sample.snd_una = sample.write_seq = sample.rcv_mss = sample.rcv_window_left = 0;
  sample.rcvbuf_bytes = 212'992;
  return socket;
}

void Scene::connect(SceneSocket& sender, SceneSocket& receiver)
{
  sender.peer = &receiver;
  receiver.peer = &sender;
  receiver.sample.tuple = sender.sample.tuple.reversed();
  receiver.sample.connected = false;
  receiver.sample.accepted = true;
}

void Scene::destroy(SceneSocket& socket)
{
  gone_.push_back(socket.sample.cookie);
  if (socket.peer != nullptr)
    socket.peer->peer = nullptr;
  sockets_.remove_if([&](const SceneSocket& other) { return &other == &socket; });
}

void Scene::exit(SceneProcess& process)
{
  for (SceneSocket& socket : sockets_) {
    std::erase(socket.holders, process.id);
    if (socket.reader_ == &process)
      socket.reader_ = nullptr;
  }
  processes_.remove_if([&](const SceneProcess& other) { return &other == &process; });
}

void Scene::run(Duration duration)
{
  for (const MonoTime end = now_ + duration; now_ + interval_ <= end;) {
    pass(interval_);
    tick();
  }
}

void Scene::run_unobserved(Duration duration)
{
  pass(duration);
  tick();
}

void Scene::pass(Duration duration)
{
  for (const MonoTime end = now_ + duration; now_ < end;) {
    const Duration length = std::min(kStep, end - now_);
    now_ += length;
    for (SceneSocket& socket : sockets_)
      socket.step(seconds(length));
  }
}

// As LiveSource::tick().
void Scene::tick()
{
  model::Tick tick;
  tick.time = now_;
  tick.wall_time = WallTime{std::chrono::seconds(1'700'000'000)} + (now_ - kStart);
  tick.since_boot = now_.time_since_epoch();
  tick.meant_interval = interval_;
  tick.epoch = ++epoch_;
  tick.lost = lost;
  tick.host_available_bytes = host_available_bytes;
  tick.host_shmem_bytes = static_cast<std::uint64_t>(host_shmem_bytes(elapsed_seconds()));

  tick.sockets = std::exchange(announced_, {});
  tick.gone = std::exchange(gone_, {});
  tick.swept = ticks_++ % static_cast<std::uint64_t>(sweep_every_ticks) == 0;
  if (tick.swept)
    for (SceneSocket& socket : sockets_) {
      if (!socket.is_interesting())
        continue;
      socket.sample.time = now_;
      socket.update_leftover();
      socket.announced_drops_ = socket.sample.drops;
      tick.sockets.push_back(socket.sample);
    }
  tick.looked_at_pools = looks_at_pools && tick.swept && now_ >= pools_due_;
  if (tick.looked_at_pools) {
    pools_due_ = now_ + pools_period_ * 9 / 10;
    for (const SceneSocket& socket : sockets_)
      if (socket.is_pooled())
        tick.pooled.push_back(socket.pooled());
  }
  tick.walked_holders = walks_holders && (walk_wanted_ || always_walks_holders);
  if (tick.walked_holders)
    for (const SceneSocket& socket : sockets_)
      for (model::ProcessId holder : socket.holders)
        tick.holders.push_back({socket.sample.cookie, holder, 3});
  tick.walked_processes = walks_processes;
  if (walks_processes)
    for (const SceneProcess& process : processes_) {
      model::ProcessSample& sample = tick.processes.emplace_back();
      sample.id = process.id;
      sample.comm = process.comm;
      sample.cgroup_id = process.cgroup_id;
      sample.exe_inode = process.exe_inode;
      sample.vpid = process.id.tgid;
      sample.anon_bytes = static_cast<std::uint64_t>(process.anon_bytes(elapsed_seconds()));
      sample.shmem_bytes = static_cast<std::uint64_t>(process.shmem_bytes(elapsed_seconds()));
      sample.read_bytes = process.read_bytes;
      sample.uses_sockets = process.uses_sockets;
      sample.data_bytes = process.mapped_bytes ? static_cast<std::uint64_t>(process.mapped_bytes(elapsed_seconds())) : sample.anon_bytes;
      sample.threads = process.threads;
      sample.waits_in_epoll = process.waits_in_epoll;
    }

  tick.can_attribute = can_attribute;
  attribute(tick);

  if (alter)
    alter(tick);
  model_.apply(tick);
  std::ranges::move(detector_.evaluate(model_), std::back_inserter(findings_));
  walk_wanted_ = detector_.wants_holders();
  for (const detect::Suspect& suspect : detector_.suspects()) {
    if (!can_attribute || attributed_.size() >= attributes_at_once)
      break;
    if (std::ranges::any_of(attributed_, [&](const Attributed& one) { return one.suspect.process == suspect.process; }))
      continue;
    const model::Process* process = model_.find(suspect.process);
    attributed_.push_back({suspect, now_, bytes_of(suspect.process), process != nullptr ? process->latest().read_bytes : 0});
    attributions++;
  }
}

double Scene::bytes_of(model::ProcessId id)
{
  const auto process = std::ranges::find(processes_, id, &SceneProcess::id);
  return process != processes_.end() ? process->anon_bytes(elapsed_seconds()) : 0;
}

// As Attributions::finish() and tell().
void Scene::attribute(model::Tick& tick)
{
  std::erase_if(attributed_, [&](const Attributed& one) {
    const double grown = std::max(bytes_of(one.suspect.process) - one.from_bytes, 0.0);
    const Duration lasted = now_ - one.since;
    if (lasted < attribution_time_ || (lasted < one.suspect.patience && grown < static_cast<double>(one.suspect.needed_bytes)))
      return false;
    double other = grown * attribution_sees;
    model::GrowthSample sample;
    sample.process = one.suspect.process;
    sample.begin = one.since;
    sample.end = now_;
    sample.complete = true;
    sample.limit_bytes = cgroup_limit_bytes;
    sample.headroom_bytes = cgroup_headroom_bytes;
    if (const auto process = std::ranges::find(processes_, one.suspect.process, &SceneProcess::id); process != processes_.end())
      for (const SceneShare& share : process->grows_with) {
        model::GrowthSample with = sample;
        with.cookie = share.socket->sample.cookie;
        with.kernel_bytes = static_cast<std::uint64_t>(share.kernel * grown);
        with.user_bytes = static_cast<std::uint64_t>(share.user * grown);
        with.accepted = share.socket->sample.accepted;
        with.reads = with.turns = static_cast<std::uint64_t>(share.reads * seconds(lasted));
        with.answered = static_cast<std::uint64_t>(share.answered * share.reads * seconds(lasted));
        with.read_bytes = process->read_bytes - one.from_read_bytes;
        other -= static_cast<double>(with.kernel_bytes + with.user_bytes);
        tick.growths.push_back(with);
      }
    sample.user_bytes = static_cast<std::uint64_t>(std::max(other, 0.0));
    tick.growths.push_back(sample);
    return true;
  });
}

void Scene::stop() { std::ranges::move(detector_.finish(model_), std::back_inserter(findings_)); }

std::vector<detect::Finding> Scene::lines(detect::Phase phase) const
{
  std::vector<detect::Finding> result;
  std::ranges::copy_if(findings_, std::back_inserter(result), [&](const auto& finding) { return finding.phase == phase; });
  return result;
}

std::vector<detect::Finding> Scene::opened(detect::Kind kind) const
{
  std::vector<detect::Finding> result = lines(detect::Phase::Opened);
  std::erase_if(result, [&](const detect::Finding& finding) { return finding.kind != kind; });
  return result;
}

bool has_evidence(const detect::Finding& finding, std::string_view name)
{
  return std::ranges::any_of(finding.evidence, [&](const detect::Field& field) { return field.name == name; });
}

double evidence(const detect::Finding& finding, std::string_view name)
{
  for (const detect::Field& field : finding.evidence)
    if (field.name == name) {
      if (const auto* number = std::get_if<std::uint64_t>(&field.value))
        return static_cast<double>(*number);
      if (const auto* number = std::get_if<double>(&field.value))
        return *number;
      if (const auto* truth = std::get_if<bool>(&field.value))
        return *truth ? 1 : 0;
    }
  ADD_FAILURE() << "no number '" << name << "' in the evidence";
  return 0;
}

}  // namespace laggard::test

namespace laggard::detect {

void PrintTo(const Finding& finding, std::ostream* out)
{
  *out << to_string(finding.kind) << ' ' << to_string(finding.phase) << " #" << finding.sequence << ' '
       << to_string(finding.severity) << " x" << finding.count << " after " << seconds(finding.duration) << " s, "
       << finding.process.comm << '[' << finding.process.id.tgid << "]: " << finding.message;
  if (finding.resolution)
    *out << " (" << to_string(*finding.resolution) << ')';
}

}  // namespace laggard::detect
