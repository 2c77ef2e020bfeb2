// SPDX-License-Identifier: MIT
#include "output/metrics_publisher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "output/self_usage.h"

namespace laggard::output {
namespace {

constexpr std::chrono::seconds kTextfilePeriod{5};  // scrapes are seldom closer together

}  // namespace

Result<void> write_textfile(const std::string& path, const std::string& text)
{
  // node_exporter reads what ends in ".prom", so that it never sees this one.
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());  // of one that was killed
  Fd file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (!file)
    return errno_failure(fmt::format("cannot write '{}'", temporary));
  const auto give_up = [&](const std::string& path_, int error) {
    ::unlink(temporary.c_str());
    return errno_failure(fmt::format("cannot write '{}'", path_), error);
  };
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(file.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR)
      return give_up(temporary, errno);
    written += static_cast<std::size_t>(std::max<ssize_t>(count, 0));
  }
  // Whatever the umask is.
  if (::fchmod(file.get(), 0644) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0)
    return give_up(path, errno);
  return {};
}

Result<std::unique_ptr<MetricsPublisher>> MetricsPublisher::open(const std::optional<ListenAddress>& address, std::string textfile)
{
  std::unique_ptr<MetricsPublisher> publisher{new MetricsPublisher};
  publisher->textfile_ = std::move(textfile);
  publisher->stop_fd_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!publisher->stop_fd_)
    return errno_failure("cannot make an eventfd");
  if (address) {
    auto endpoint = MetricsEndpoint::listen(*address);
    if (!endpoint)
      return tl::make_unexpected(endpoint.error());
    publisher->endpoint_ = std::move(*endpoint);
  }
  return publisher;
}

Result<void> MetricsPublisher::start(const Metrics& metrics)
{
  publish(metrics);
  if (!textfile_.empty()) {
    if (auto written = write_textfile(textfile_, metrics.text(self_usage(), Metrics::Reader::NodeExporter)); !written) {
      const uid_t user = ::geteuid();
      return failure(fmt::format("--metrics-textfile: {}. Having loaded its programs, laggard is the user {} and must be able to create "
                                 "files in that directory. Make one for it, 'install -d -o {} /run/laggard', use '--metrics-textfile "
                                 "/run/laggard/laggard.prom', and link that into node_exporter's directory",
                                 written.error().message(), user == 65534 ? "nobody" : std::to_string(user), user));
    }
    written_ = latest();
  }
  // Signals are for the thread that waits for them.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

MetricsPublisher::~MetricsPublisher()
{
  if (!thread_.joinable())
    return;
  ::eventfd_write(stop_fd_.get(), 1);
  thread_.join();
}

void MetricsPublisher::publish(const Metrics& metrics)
{
  auto copy = std::make_shared<const Metrics>(metrics);
  const std::lock_guard lock{mutex_};
  latest_.swap(copy);
}

std::shared_ptr<const Metrics> MetricsPublisher::latest() const
{
  const std::lock_guard lock{mutex_};
  return latest_;
}

void MetricsPublisher::renew_textfile()
{
  const auto metrics = latest();
  if (textfile_.empty() || metrics == written_)
    return;
  auto written = write_textfile(textfile_, metrics->text(self_usage(), Metrics::Reader::NodeExporter));
  if (!written && !textfile_failed_)
    std::fprintf(stderr, "laggard: --metrics-textfile: %s; the next one is tried in %lld s\n", written.error().message().c_str(),
                 static_cast<long long>(kTextfilePeriod.count()));
  textfile_failed_ = !written;
  written_ = metrics;
}

// Written once per tick, however many ask.
MetricsEndpoint::Text MetricsPublisher::page()
{
  if (auto metrics = latest(); metrics != told_) {
    page_ = std::make_shared<const std::string>(metrics->text(self_usage()));
    told_ = std::move(metrics);
  }
  return page_;
}

void MetricsPublisher::run()
{
  pollfd stop{stop_fd_.get(), POLLIN, 0};
  while (stop.revents == 0) {
    if (endpoint_)
      endpoint_->serve(stop.fd, kTextfilePeriod, [this] { return page(); });
    const int wait_ms = endpoint_ ? 0 : static_cast<int>(std::chrono::milliseconds(kTextfilePeriod).count());
    ::poll(&stop, 1, wait_ms);
    renew_textfile();
  }
}

}  // namespace laggard::output
