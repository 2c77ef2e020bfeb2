// SPDX-License-Identifier: MIT
// What systemd wants to hear of a service of Type=notify: sd_notify(3), whose protocol is stable and one datagram.
#pragma once

#include <string>

#include "base/fd.h"

namespace laggard::cli {

class ServiceManager {
 public:
  // Of the environment: $NOTIFY_SOCKET, and $WATCHDOG_USEC where $WATCHDOG_PID is this process. Without them all calls do
  // nothing. To be called before privileges are dropped; connects once, and never waits for a systemd that is busy.
  static ServiceManager from_environment();

  void ticked(const std::string& status);  // the first one says that we are ready
  void stopping();

 private:
  bool say(const std::string& message);

  Fd socket_;
  bool watchdog_ = false;
  bool ready_said_ = false;
};

}  // namespace laggard::cli
