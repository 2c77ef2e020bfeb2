// SPDX-License-Identifier: MIT
// load: many connections over loopback by few processes, or few by many, for `scripts/bench`.
//
//   load MODE N [--key value]...
//     busy N        N connections; each gets a message every --every-ms, which is read at once
//     idle N        N connections without any traffic
//     stalled N     N connections; each gets --bytes once, which nobody reads
//     endpoints N   stalled, but one process has all N, to N endpoints
//     lagging N     N processes with one connection each, to one sender; each reads --bite bytes every --every-ms
//     churn N       N clients and N servers: connect, request, reply, close, as fast as they can
//   --processes K   at least so many readers and writers share the connections [as few as possible]
//   --per-process M descriptors of one process at most [15000; the hard limit of RLIMIT_NOFILE is often 20000]
//   --bytes B       of a message, or of request and reply [100; stalled, endpoints: 4096]
//   --rate R        lagging: bytes per second and connection that the sender sends [20000]
//   --bite B [512]  --every-ms T [1000; lagging: 250]
//   --seconds S     ends by itself, and does not look at standard input
//
// Output: `ready connections=N readers=R writers=W setup_ms=T` when everything stands, and
// `done seconds= connections= bytes_sent= bytes_read= reads= per_second=` at the end: for busy from `ready` on, for
// churn from the start, exactly; both ends of churn count what they read. per_second: connections of churn, else reads.
// `error WHAT` and exit code 2. It runs until its standard input closes, SIGTERM or SIGINT, and ends all of its
// children; they end with it, too.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <thread>
#include <vector>

#include "system.h"

namespace workload {
namespace {

using namespace std::chrono_literals;

// A listener takes no more than what its backlog (somaxconn is 4096) holds, so that no SYN is dropped and sent again
// after a second; and few enough that a free ephemeral port is found at once.
constexpr std::size_t kPerListener = 4000;
constexpr std::size_t kChurnAddresses = 64;  // 64 * 28 000 ports: more than TIME_WAIT holds at 20 000 per second
constexpr int kSmallBuffer = 4096;           // the kernel doubles it
constexpr std::size_t kMostBytes = 1 << 20;

struct Options {
  std::string mode;
  std::size_t count = 0;
  std::size_t processes = 1;
  std::size_t per_process = 15'000;
  std::size_t bytes = 0;
  std::size_t rate = 20'000;
  std::size_t bite = 512;
  std::chrono::milliseconds every{0};
  std::chrono::seconds lifetime{0};
};

// In memory that all processes share.
struct Account {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> connections{0}, bytes_sent{0}, bytes_read{0}, reads{0};
};

struct Listener {
  Fd fd;
  Address address;
  std::size_t connections = 0;  // that it will take
};

void sleep_for(Duration duration) { std::this_thread::sleep_for(duration); }

Address endpoint(unsigned net, std::size_t host)
{
  Address address = loopback(AF_INET, 0);
  auto* in = reinterpret_cast<sockaddr_in*>(&address.storage);
  in->sin_addr.s_addr = htonl(0x7f000000u | (net << 16) | static_cast<std::uint32_t>(host + 1));
  return address;
}

Listener make_wide_listener(const Address& address, std::size_t connections, int rcvbuf)
{
  Listener listener{make_listener(address, rcvbuf), {}, connections};
  if (::listen(listener.fd.get(), 4096) != 0) fail_errno("listen");
  listener.address = local_address(listener.fd.get());
  return listener;
}

// `connections` over as many listeners as they need, on addresses of their own.
std::vector<Listener> make_listeners(unsigned net, std::size_t connections, int rcvbuf,
                                     std::size_t per_listener = kPerListener)
{
  std::vector<Listener> listeners;
  for (std::size_t left = connections; left > 0;) {
    const std::size_t some = std::min(left, per_listener);
    listeners.push_back(make_wide_listener(endpoint(net, listeners.size()), some, rcvbuf));
    left -= some;
  }
  return listeners;
}

std::vector<Fd> accept_all(const std::vector<Listener>& listeners)
{
  std::vector<Fd> connections;
  for (const Listener& listener : listeners)
    for (std::size_t i = 0; i < listener.connections; i++) connections.push_back(accept_from(listener.fd.get()));
  return connections;
}

Fd connect_one(const Address& address, int sndbuf, int rcvbuf)
{
  Fd fd = make_socket(AF_INET, false, rcvbuf);
  if (sndbuf > 0 && ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf) != 0) fail_errno("SO_SNDBUF");
  connect_to(fd.get(), address);
  return fd;
}

std::vector<Fd> connect_all(const std::vector<Listener>& listeners, int sndbuf = 0, int rcvbuf = 0)
{
  std::vector<Fd> connections;
  for (const Listener& listener : listeners)
    for (std::size_t i = 0; i < listener.connections; i++)
      connections.push_back(connect_one(listener.address, sndbuf, rcvbuf));
  return connections;
}

void pause_for_ever()
{
  for (;;) ::pause();
}

// ---- what the processes do once their connections stand ----

void send_once(const std::vector<Fd>& connections, std::size_t bytes, Account& account)
{
  const std::vector<char> message(bytes, 'x');
  for (const Fd& fd : connections) {
    const ssize_t sent = ::send(fd.get(), message.data(), bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    account.bytes_sent += sent > 0 ? static_cast<std::uint64_t>(sent) : 0;
  }
}

// One after the other, evenly over the period, so that the load does not come in bursts.
void send_in_turn(const std::vector<Fd>& connections, const Options& options, Account& account)
{
  const std::vector<char> message(options.bytes, 'x');
  const TimePoint start = Clock::now();
  for (std::uint64_t sent = 0; !account.stop;) {
    const double periods =
        std::chrono::duration<double>(Clock::now() - start) / std::chrono::duration<double>(options.every);
    // In small portions, so that what is counted and `stop` are up to date where the machine does not keep up.
    const auto due =
        std::min(static_cast<std::uint64_t>(periods * static_cast<double>(connections.size())), sent + 256);
    std::uint64_t bytes = 0;
    for (; sent < due; sent++) {
      const ssize_t count = ::send(connections[sent % connections.size()].get(), message.data(), message.size(),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
      bytes += count > 0 ? static_cast<std::uint64_t>(count) : 0;
    }
    account.bytes_sent += bytes;
    if (bytes < 256 * message.size()) sleep_for(5ms);
  }
  pause_for_ever();
}

void send_at_rate(const std::vector<Fd>& connections, const Options& options, Account& account)
{
  const std::vector<char> block(std::max<std::size_t>(options.rate / 10, 1), 'x');
  for (;; sleep_for(100ms)) send_once(connections, block.size(), account);
}

void read_at_once(const std::vector<Fd>& connections, Account& account)
{
  const Fd poll{::epoll_create1(EPOLL_CLOEXEC)};
  for (const Fd& fd : connections) {
    epoll_event event{EPOLLIN, {.fd = fd.get()}};
    if (::epoll_ctl(poll.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) fail_errno("epoll_ctl");
  }
  std::array<epoll_event, 256> events{};
  std::vector<char> buffer(kMostBytes);
  for (;;) {
    const int ready = ::epoll_wait(poll.get(), events.data(), static_cast<int>(events.size()), -1);
    std::uint64_t bytes = 0, reads = 0;
    for (int i = 0; i < ready; i++) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (count <= 0)  // the writer is gone: all ends
        ::epoll_ctl(poll.get(), EPOLL_CTL_DEL, fd, nullptr);
      bytes += count > 0 ? static_cast<std::uint64_t>(count) : 0;
      reads++;
    }
    account.bytes_read += bytes;
    account.reads += reads;
  }
}

void read_slowly(const Fd& connection, const Options& options, Account& account)
{
  std::vector<char> buffer(options.bite);
  for (;; sleep_for(options.every)) {
    const ssize_t count = ::recv(connection.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    account.bytes_read += count > 0 ? static_cast<std::uint64_t>(count) : 0;
    account.reads++;
  }
}

// Reads `bytes`, fewer where the other end closes before.
std::size_t take(const Fd& fd, std::vector<char>& buffer, std::size_t bytes, Account& account)
{
  std::size_t taken = 0;
  while (taken < bytes) {
    const ssize_t count = ::recv(fd.get(), buffer.data(), bytes - taken, 0);
    account.reads++;
    if (count <= 0) break;
    taken += static_cast<std::size_t>(count);
  }
  account.bytes_read += taken;
  return taken;
}

void give(const Fd& fd, std::vector<char>& buffer, std::size_t bytes, Account& account)
{
  const ssize_t sent = ::send(fd.get(), buffer.data(), bytes, MSG_NOSIGNAL);
  account.bytes_sent += sent > 0 ? static_cast<std::uint64_t>(sent) : 0;
}

// The addresses of one server; they share its port, and what is bound to none of them listens to all.
void serve_visits(const Listener& listener, const Options& options, Account& account)
{
  for (std::vector<char> buffer(options.bytes);;) {
    const Fd visit{::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (visit.open() && take(visit, buffer, options.bytes, account) == options.bytes)
      give(visit, buffer, options.bytes, account);
  }
}

void visit_again_and_again(const Listener& listener, unsigned net, const Options& options, Account& account)
{
  const auto port = reinterpret_cast<const sockaddr_in*>(&listener.address.storage)->sin_port;
  std::vector<char> buffer(options.bytes);
  for (std::size_t visits = 0; !account.stop; visits++) {
    Address address = endpoint(net, visits % kChurnAddresses);
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = port;
    Fd fd = make_socket(AF_INET, false, 0);
    if (::connect(fd.get(), address.raw(), address.length) != 0) {  // no free port: TIME_WAIT has them all
      sleep_for(1ms);
      continue;
    }
    give(fd, buffer, options.bytes, account);
    if (take(fd, buffer, options.bytes, account) == options.bytes) account.connections++;
  }
}

// ---- processes ----

class Family {
 public:
  explicit Family(Account& account) : account_(account)
  {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail_errno("pipe");
    standing_.reset(ends[0]);
    stands_.reset(ends[1]);
  }
  ~Family() { end(); }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  // `body` calls its argument when its connections stand, and need not return.
  using Body = std::function<void(const std::function<void()>& stands)>;
  pid_t add(const char* name, const Body& body);
  void wait_until_all_stand();
  void wait_for(pid_t child);
  void end();

 private:
  Account& account_;
  Fd standing_, stands_;
  std::vector<pid_t> children_;
};

pid_t Family::add(const char* name, const Body& body)
{
  const int parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) fail_errno("fork");
  if (child > 0) {
    children_.push_back(child);
    return child;
  }
  die_with_parent(parent);
  children_.clear();
  ::prctl(PR_SET_NAME, name, 0L, 0L, 0L);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  try {
    body([this] {
      if (::write(stands_.get(), "y", 1) != 1) ::_exit(2);
      stands_.reset();
    });
  } catch (const Failure& failure) {
    Line{std::string(name) + ": " + failure.what()}.print();
    ::_exit(2);
  }
  ::_exit(0);
}

void Family::wait_until_all_stand()
{
  stands_.reset();
  std::size_t standing = 0;
  pollfd polled{standing_.get(), POLLIN, 0};
  for (char one = 0; standing < children_.size(); standing++) {
    while (::poll(&polled, 1, 100) == 0)
      if (::waitpid(-1, nullptr, WNOHANG) > 0)  // the others would wait for it for ever
        throw Failure("a process could not set up its connections");
    if (::read(standing_.get(), &one, 1) != 1) break;
  }
  if (standing != children_.size())
    throw Failure("only " + std::to_string(standing) + " of " + std::to_string(children_.size()) + " processes stand");
}

void Family::wait_for(pid_t child)
{
  ::waitpid(child, nullptr, 0);
  std::erase(children_, child);
}

void Family::end()
{
  account_.stop = true;
  for (const pid_t child : children_) ::kill(child, SIGKILL);
  for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
  children_.clear();
}

// ---- modes ----

struct Setup {
  std::size_t readers = 0, writers = 0, connections = 0;
  std::vector<pid_t> finish;  // these end by themselves when `stop` is set
};

Setup start_pairs(const Options& options, Family& family, Account& account)
{
  const bool stalled = options.mode == "stalled", busy = options.mode == "busy";
  const std::size_t room = options.per_process - 64;  // for what is no connection
  const std::size_t pairs = std::max(options.processes, (options.count + room - 1) / room);
  const int rcvbuf = stalled ? static_cast<int>(std::max<std::size_t>(2 * options.bytes, kSmallBuffer)) : 0;
  for (std::size_t pair = 0; pair < pairs; pair++) {
    const std::size_t share = options.count / pairs + (pair < options.count % pairs ? 1 : 0);
    const std::vector<Listener> listeners = make_listeners(static_cast<unsigned>(pair + 1), share, rcvbuf);
    family.add("load-reader", [&](const auto& stands) {
      const std::vector<Fd> connections = accept_all(listeners);
      stands();
      if (busy) read_at_once(connections, account);
      pause_for_ever();
    });
    family.add("load-writer", [&](const auto& stands) {
      const std::vector<Fd> connections = connect_all(listeners, stalled ? kSmallBuffer : 0);
      if (stalled) send_once(connections, options.bytes, account);
      stands();
      if (busy) send_in_turn(connections, options, account);
      pause_for_ever();
    });
  }
  return {pairs, pairs, options.count, {}};
}

Setup start_endpoints(const Options& options, Family& family, Account& account)
{
  const int rcvbuf = static_cast<int>(std::max<std::size_t>(2 * options.bytes, kSmallBuffer));
  // Their owner has a listener and a connection of each until it has accepted all.
  if (2 * options.count + 64 > options.per_process)
    throw Failure("endpoints needs two descriptors for each connection; at most " +
                  std::to_string(options.per_process / 2 - 32) + " of them");
  const std::vector<Listener> listeners = make_listeners(1, options.count, 0, 1);
  family.add("load-writer", [&](const auto& stands) {
    const std::vector<Fd> connections = accept_all(listeners);
    send_once(connections, options.bytes, account);
    stands();
    pause_for_ever();
  });
  family.add("load-reader", [&](const auto& stands) {
    const std::vector<Fd> connections = connect_all(listeners, 0, rcvbuf);
    stands();
    pause_for_ever();
  });
  return {1, 1, options.count, {}};
}

Setup start_lagging(const Options& options, Family& family, Account& account)
{
  const std::vector<Listener> listeners = make_listeners(1, options.count, 0);
  family.add("load-writer", [&](const auto& stands) {
    const std::vector<Fd> connections = accept_all(listeners);
    stands();
    send_at_rate(connections, options, account);
  });
  for (const Listener& listener : listeners)
    for (std::size_t i = 0; i < listener.connections; i++)
      family.add("load-reader", [&](const auto& stands) {
        const Fd connection = connect_one(listener.address, 0, 2 * kSmallBuffer);
        stands();
        read_slowly(connection, options, account);
      });
  return {options.count, 1, options.count, {}};
}

Setup start_churn(const Options& options, Family& family, Account& account)
{
  Setup setup{options.count, options.count, 0, {}};
  for (std::size_t pair = 0; pair < options.count; pair++) {
    const auto net = static_cast<unsigned>(pair + 1);
    Address any = loopback(AF_INET, 0);
    reinterpret_cast<sockaddr_in*>(&any.storage)->sin_addr.s_addr = htonl(INADDR_ANY);
    const Listener listener = make_wide_listener(any, 0, 0);
    family.add("load-server", [&](const auto& stands) {
      stands();
      serve_visits(listener, options, account);
    });
    setup.finish.push_back(family.add("load-client", [&](const auto& stands) {
      stands();
      visit_again_and_again(listener, net, options, account);
    }));
  }
  return setup;
}

// ---- command line ----

std::size_t number(const std::string& key, const std::string& text, std::size_t least, std::size_t most)
{
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw Failure(key + ": '" + text + "' is no number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

using Start = Setup (*)(const Options&, Family&, Account&);
const std::map<std::string, Start> kModes = {{"busy", start_pairs},      {"idle", start_pairs},
                                             {"stalled", start_pairs},   {"endpoints", start_endpoints},
                                             {"lagging", start_lagging}, {"churn", start_churn}};

Options parse(const std::vector<std::string>& words)
{
  if (words.size() < 2 || words.size() % 2 != 0 || !kModes.contains(words[0]))
    throw Failure(
        "usage: load busy|idle|stalled|endpoints|lagging|churn N [--key value]...; tests/workload/load.cpp lists the "
        "keys");
  Options options;
  options.mode = words[0];
  options.count = number(options.mode, words[1], 1, 1'000'000);
  for (std::size_t i = 2; i < words.size(); i += 2) {
    const std::string &key = words[i], &value = words[i + 1];
    if (key == "--processes")
      options.processes = number(key, value, 1, 250);
    else if (key == "--per-process")
      options.per_process = number(key, value, 128, 1'000'000);
    else if (key == "--bytes")
      options.bytes = number(key, value, 1, kMostBytes);
    else if (key == "--rate")
      options.rate = number(key, value, 10, 1'000'000'000);
    else if (key == "--bite")
      options.bite = number(key, value, 1, kMostBytes);
    else if (key == "--every-ms")
      options.every = std::chrono::milliseconds(number(key, value, 1, 3'600'000));
    else if (key == "--seconds")
      options.lifetime = std::chrono::seconds(number(key, value, 1, 86'400));
    else
      throw Failure("unknown option '" + key + "'");
  }
  if (options.bytes == 0) options.bytes = options.mode == "stalled" || options.mode == "endpoints" ? 4096 : 100;
  if (options.every.count() == 0) options.every = options.mode == "lagging" ? 250ms : 1000ms;
  if (options.mode == "churn" && options.count > 250) throw Failure("churn: at most 250 clients");
  return options;
}

// Until standard input closes, a signal, or the end of --seconds.
void wait_for_the_end(const Options& options, int signals)
{
  const TimePoint end = options.lifetime.count() > 0 ? Clock::now() + options.lifetime : TimePoint::max();
  std::array<pollfd, 2> polled{{{signals, POLLIN, 0}, {options.lifetime.count() > 0 ? -1 : STDIN_FILENO, POLLIN, 0}}};
  while (Clock::now() < end) {
    ::poll(polled.data(), polled.size(), 100);
    std::array<char, 256> ignored{};
    if (polled[0].revents != 0 || (polled[1].revents != 0 && ::read(STDIN_FILENO, ignored.data(), ignored.size()) <= 0))
      return;
  }
}

int signal_descriptor()
{
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  return ::signalfd(-1, &set, SFD_CLOEXEC);
}

double seconds_since(TimePoint start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void run(const Options& options)
{
  raise_fd_limit();
  void* shared = ::mmap(nullptr, sizeof(Account), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail_errno("mmap");
  auto* account = new (shared) Account;
  const Fd signals{signal_descriptor()};
  TimePoint start = Clock::now();
  Family family(*account);
  Setup setup = kModes.at(options.mode)(options, family, *account);
  family.wait_until_all_stand();
  Line{"ready"}
      .add("connections", setup.connections)
      .add("readers", setup.readers)
      .add("writers", setup.writers)
      .add("setup_ms", static_cast<std::uint64_t>(1e3 * seconds_since(start)))
      .print();
  if (options.mode == "busy") start = Clock::now();
  wait_for_the_end(options, signals.get());
  const double seconds = seconds_since(start);
  account->stop = true;
  for (const pid_t child : setup.finish) family.wait_for(child);
  if (options.mode == "busy") sleep_for(200ms);  // what is under way is read
  family.end();
  const std::uint64_t connections = setup.connections + account->connections;
  const double per_second =
      static_cast<double>(options.mode == "churn" ? connections : account->reads.load()) / seconds;
  Line{"done"}
      .add("seconds", seconds)
      .add("connections", connections)
      .add("bytes_sent", account->bytes_sent.load())
      .add("bytes_read", account->bytes_read.load())
      .add("reads", account->reads.load())
      .add("per_second", static_cast<std::uint64_t>(per_second))
      .print();
}

}  // namespace
}  // namespace workload

int main(int argc, char** argv)
{
  try {
    workload::run(workload::parse({argv + 1, argv + argc}));
  } catch (const workload::Failure& failure) {
    workload::Line{std::string("error ") + failure.what()}.print();
    return 2;
  }
  return 0;
}
