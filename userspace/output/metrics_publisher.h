// SPDX-License-Identifier: MIT
// Brings metrics to those who want them, from a thread of its own: neither a slow scraper nor a slow disk holds up a tick.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/fd.h"
#include "base/result.h"
#include "output/metrics.h"
#include "output/metrics_endpoint.h"

namespace laggard::output {

// Whole or not at all: a file beside it takes its name. Readable by all.
Result<void> write_textfile(const std::string& path, const std::string& text);

class MetricsPublisher {
 public:
  // Takes the port, for which it may need privileges; serves nobody yet. Empty `textfile`: none is written.
  static Result<std::unique_ptr<MetricsPublisher>> open(const std::optional<ListenAddress>& address, std::string textfile);
  // Writes the first file and begins to serve; with the identity and the privileges of the caller, from now on.
  Result<void> start(const Metrics& metrics);
  void publish(const Metrics& metrics);
  // The file has what was published last; nobody is served any more.
  ~MetricsPublisher();
  MetricsPublisher(const MetricsPublisher&) = delete;
  MetricsPublisher& operator=(const MetricsPublisher&) = delete;

  std::string url() const { return endpoint_ ? endpoint_->url() : std::string{}; }  // empty: no endpoint

 private:
  MetricsPublisher() = default;
  void run();
  void renew_textfile();
  MetricsEndpoint::Text page();
  std::shared_ptr<const Metrics> latest() const;

  std::optional<MetricsEndpoint> endpoint_;
  std::string textfile_;
  Fd stop_fd_;
  mutable std::mutex mutex_;  // of latest_, held while a pointer is copied
  std::shared_ptr<const Metrics> latest_;
  // Of the thread.
  std::shared_ptr<const Metrics> written_;
  bool textfile_failed_ = false;
  std::shared_ptr<const Metrics> told_;  // as page_
  MetricsEndpoint::Text page_;
  std::thread thread_;
};

}  // namespace laggard::output
