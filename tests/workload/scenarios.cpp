// SPDX-License-Identifier: MIT
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "scenario.h"

namespace workload {
namespace {

void require(bool condition, const char* what)
{
  if (!condition)
    throw Failure(std::string(what) + " did not happen in time");
}

void take_exactly(World& world, int fd, std::uint64_t bytes)
{
  std::vector<char>& buffer = world.scratch(bytes);
  while (bytes > 0) {
    const ssize_t count = world.take(fd, buffer.data(), bytes);
    if (count <= 0)
      throw Failure("the stream ended too early");
    bytes -= static_cast<std::uint64_t>(count);
  }
}

void send_exactly(int fd, std::uint64_t bytes)
{
  const std::vector<char> message(bytes, 'q');
  if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes))
    fail_errno("send a request");
}

void set_answer(World& world, const Observed& socket, Answer answer)
{
  PeerRequest request;
  request.op = PeerOp::answer;
  request.id = socket.id;
  request.answer = answer;
  request.size = world.options().size;
  request.linger_ns = world.options().linger.count();
  world.peer().ask(request);
}

class CloseWait : public Scenario {
 public:
  void start(World& world) override
  {
    const Observed& socket = world.sockets().front();
    const int fd = socket.fd.get();
    const std::uint64_t bytes = world.options().bytes;
    const std::string& eof = world.options().eof;
    if (bytes > 0)
      require(world.send_and_wait(socket, bytes, true), "arrival of the data with the FIN");
    world.ask(PeerOp::close, socket);
    require(wait_until(world.options().deadline, [&] { return peer_has_closed(fd); }), "CLOSE_WAIT");
    std::vector<char>& buffer = world.scratch(bytes + 1);
    if (eof == "eaten" && world.take(fd, buffer.data(), bytes + 1) != static_cast<ssize_t>(bytes))
      throw Failure("one read did not take all of the data");
    while (eof == "seen" && world.totals().zero_reads == 0)
      if (world.take(fd, buffer.data(), bytes + 1) < 0)
        throw Failure("no end of stream");
  }
};

class FinWait2 : public Scenario {
 public:
  void start(World& world) override
  {
    const int fd = world.fd();
    if (::shutdown(fd, SHUT_WR) != 0)
      fail_errno("shutdown");
    require(wait_until(world.options().deadline, [&] { return tcp_state(fd) == TCP_FIN_WAIT2; }), "FIN_WAIT2");
    if (world.options().play == Play::orphan)
      world.sockets().front().fd.reset();
  }
};

// leak-conns and idle-pool.
class Many : public Scenario {
 public:
  void connect(World& world) override
  {
    for (std::uint64_t index = 0; index < world.options().count; index++)
      world.open();
  }

  void start(World& world) override
  {
    const std::uint64_t size = world.options().size;
    for (const Observed& socket : world.sockets()) {
      if (world.options().chatty && size > 0) {
        set_answer(world, socket, Answer::echo);
        send_exactly(socket.fd.get(), size);
        take_exactly(world, socket.fd.get(), size);
      } else if (!world.send_and_wait(socket, world.options().bytes)) {
        throw Failure("the unread data did not arrive");
      }
    }
  }
};

// One connection is treated as by the Reader, the others are read as soon as something arrives. It is the first of the
// World's sockets, but neither the first nor the last that was opened.
class Crowd : public Scenario {
 public:
  explicit Crowd(const Options& options) : odd_(make_reader(options)), events_(::epoll_create1(EPOLL_CLOEXEC)) {}

  void connect(World& world) override
  {
    for (std::uint64_t index = 0; index < world.options().count; index++)
      world.open();
    std::swap(world.sockets().front(), world.sockets()[world.options().count / 2]);
  }

  void start(World& world) override
  {
    for (const Observed& socket : world.sockets()) {
      const int fd = socket.fd.get();
      const bool is_odd = fd == world.fd();
      if (!is_odd)
        world.send(socket, kUnlimited, kOthersRate);
      epoll_event event{EPOLLIN, {.fd = fd}};
      if ((!is_odd || odd_->watched(world) == fd) && ::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        fail_errno("epoll_ctl");
    }
    odd_->start(world);
  }
  int watched(const World&) const override { return events_.get(); }
  TimePoint wake() const override { return odd_->wake(); }

  void step(World& world, bool, TimePoint now) override
  {
    std::array<epoll_event, 64> ready;
    const int count = ::epoll_wait(events_.get(), ready.data(), static_cast<int>(ready.size()), 0);
    bool odd_is_readable = false;
    for (int index = 0; index < count; index++) {
      const int fd = ready[static_cast<std::size_t>(index)].data.fd;
      if (fd == world.fd()) {
        odd_is_readable = true;
        continue;
      }
      const ssize_t got = world.take(fd, world.scratch(65536).data(), 65536, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && got != -EAGAIN))
        ::epoll_ctl(events_.get(), EPOLL_CTL_DEL, fd, nullptr);
    }
    odd_->step(world, odd_is_readable, now);
  }

 private:
  static constexpr std::uint64_t kOthersRate = 10'000;
  std::unique_ptr<Scenario> odd_;
  Fd events_;
};

class Backlog : public Scenario {
 public:
  void connect(World& world) override
  {
    for (std::uint64_t index = 0; index < world.options().count; index++)
      world.let_wait();
  }
};

// Never reuses and never closes.
class Leak : public Scenario {
 public:
  explicit Leak(const Options& options) : period_(std::nano::den / static_cast<Duration::rep>(options.per_second)) {}

  void start(World& world) override
  {
    use(world, world.sockets().front());
    next_ = Clock::now() + period_;
  }
  TimePoint wake() const override { return next_; }

  void step(World& world, bool, TimePoint now) override
  {
    if (now < next_)
      return;
    next_ += period_;
    use(world, world.open());
  }

 private:
  static void use(World& world, const Observed& socket)
  {
    set_answer(world, socket, Answer::echo);
    send_exactly(socket.fd.get(), world.options().size);
    take_exactly(world, socket.fd.get(), world.options().size);
  }

  Duration period_;
  TimePoint next_ = TimePoint::max();
};

// churn and half-close: one connection at a time, opened at a fixed pace.
class Visits : public Scenario {
 public:
  explicit Visits(const Options& options) : period_(std::nano::den / static_cast<Duration::rep>(options.per_second)) {}

  void connect(World& world) override
  {
    world.open();  // so that the endpoints exist; closed properly by start()
    begin(world);
  }
  void start(World&) override { next_ = Clock::now(); }
  int watched(const World& world) const override { return world.fd(); }
  TimePoint wake() const override { return next_; }

  void step(World& world, bool readable, TimePoint now) override
  {
    if (readable && world.fd() >= 0) {
      std::vector<char>& buffer = world.scratch(world.options().bite);
      if (world.take(world.fd(), buffer.data(), world.options().bite) <= 0) {
        world.sockets().clear();
        world.totals().visits++;
      }
    }
    if (now < next_ || !world.sockets().empty())
      return;
    next_ = std::max(next_ + period_, now);
    world.open();
    begin(world);
  }

 private:
  static void begin(World& world)
  {
    const Observed& socket = world.sockets().front();
    const bool shuts_down = world.options().shuts_down;
    set_answer(world, socket, shuts_down ? Answer::reply_at_eof : Answer::reply);
    send_exactly(socket.fd.get(), world.options().size);
    if (shuts_down && ::shutdown(socket.fd.get(), SHUT_WR) != 0)
      fail_errno("shutdown");
  }

  Duration period_;
  TimePoint next_ = TimePoint::max();
};

class LongPoll : public Scenario {
 public:
  void start(World& world) override
  {
    set_answer(world, world.sockets().front(), Answer::discard);
    send_exactly(world.fd(), world.options().size);
    next_ = Clock::now() + world.options().every;
  }
  int watched(const World& world) const override { return ended_ ? -1 : world.fd(); }
  TimePoint wake() const override { return next_; }

  void step(World& world, bool readable, TimePoint now) override
  {
    if (readable && world.fd() >= 0) {
      ended_ = world.take(world.fd(), world.scratch(65536).data(), 65536) <= 0;
      if (!ended_)
        send_exactly(world.fd(), world.options().size);
    }
    if (now < next_ || world.fd() < 0)
      return;
    next_ = now + world.options().every;
    world.send(world.sockets().front(), world.options().size, kUnlimited);
  }

 private:
  bool ended_ = false;
  TimePoint next_ = TimePoint::max();
};

class ForkedHolder : public Scenario {
 public:
  void start(World& world) override
  {
    require(world.send_and_wait(world.sockets().front(), world.options().bytes), "arrival of the data");
    world.move_to_child();
  }
};

}  // namespace

std::unique_ptr<Scenario> make_scenario(const Options& options)
{
  switch (options.play) {
    case Play::reader:
      return make_reader(options);
    case Play::crowd:
      return std::make_unique<Crowd>(options);
    case Play::close_wait:
      return std::make_unique<CloseWait>();
    case Play::fin_wait:
    case Play::orphan:
      return std::make_unique<FinWait2>();
    case Play::many:
      return std::make_unique<Many>();
    case Play::visits:
      return std::make_unique<Visits>(options);
    case Play::long_poll:
      return std::make_unique<LongPoll>();
    case Play::forked:
      return std::make_unique<ForkedHolder>();
    case Play::backlog:
      return std::make_unique<Backlog>();
    case Play::leak:
      return std::make_unique<Leak>(options);
    case Play::exact:
      break;
  }
  return std::make_unique<Scenario>();
}

}  // namespace workload
