// SPDX-License-Identifier: MIT
#include "live/harness.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "contract/output_schema_check.h"
#include "source/live/host.h"

namespace laggard::test {
namespace {

std::string program(const char* variable, const char* name)
{
  if (const char* path = std::getenv(variable); path != nullptr)
    return path;
  return std::string(LAGGARD_BINARY_DIR) + "/" + name;
}

Facts parse_facts(const std::string& line)
{
  Facts facts;
  std::istringstream words{line};
  for (std::string word; words >> word;)
    if (const auto equals = word.find('='); equals != std::string::npos)
      facts[word.substr(0, equals)] = word.substr(equals + 1);
  return facts;
}

class Deadline {
 public:
  explicit Deadline(double seconds)
      : end_(std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                    std::chrono::duration<double>(seconds)))
  {
  }
  double left() const
  {
    return std::max(0.0, std::chrono::duration<double>(end_ - std::chrono::steady_clock::now()).count());
  }

 private:
  std::chrono::steady_clock::time_point end_;
};

std::pair<Fd, Fd> make_pipe()
{
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::runtime_error("pipe2 failed");
  return {Fd{ends[0]}, Fd{ends[1]}};
}

// The next line of `stream`; `buffer` holds what came after it.
std::optional<std::string> line_of(const Fd& stream, std::string& buffer, double timeout_seconds)
{
  const Deadline deadline{timeout_seconds};
  for (;;) {
    if (const auto end = buffer.find('\n'); end != std::string::npos) {
      std::string line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      return line;
    }
    pollfd poll_fd{stream.get(), POLLIN, 0};
    if (::poll(&poll_fd, 1, static_cast<int>(deadline.left() * 1000)) <= 0)
      return std::nullopt;
    char bytes[65536];
    const ssize_t got = ::read(stream.get(), bytes, sizeof bytes);
    if (got <= 0)
      return std::nullopt;
    buffer.append(bytes, static_cast<std::size_t>(got));
  }
}

}  // namespace

double now_seconds()
{
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string laggard_program() { return program("LAGGARD_BIN", "laggard"); }
std::string workload_program() { return program("WORKLOAD_BIN", "workload"); }

void become_ordinary()
{
  ::prctl(PR_SET_KEEPCAPS, 1);
  if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
    ::_exit(126);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  const unsigned high = (1U << (CAP_BPF - 32)) | (1U << (CAP_PERFMON - 32));
  data[1].effective = data[1].permitted = data[1].inheritable = high;
  if (::syscall(SYS_capset, &header, data) != 0)
    ::_exit(126);
  for (int capability : {CAP_BPF, CAP_PERFMON})
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      ::_exit(126);
}

Child::Child(const std::vector<std::string>& command, const std::function<void()>& before_exec)
{
  auto [input_read, input_write] = make_pipe();
  auto [output_read, output_write] = make_pipe();
  ::fcntl(output_write.get(), F_SETPIPE_SZ, 1 << 20);  // a test checks each line, and laggard's last ones come all at once
  auto [error_read, error_write] = make_pipe();
  pid_ = ::fork();
  if (pid_ < 0)
    throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    ::dup2(input_read.get(), 0);
    ::dup2(output_write.get(), 1);
    ::dup2(error_write.get(), 2);
    if (before_exec)
      before_exec();
    std::vector<char*> arguments;
    for (const std::string& word : command)
      arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  input_ = std::move(input_write);
  output_ = std::move(output_read);
  error_ = std::move(error_read);
}

Child::~Child()
{
  if (!status_) {
    ::kill(pid_, SIGKILL);
    wait();
  }
}

std::optional<std::string> Child::read_line(double timeout_seconds) { return line_of(output_, buffer_, timeout_seconds); }

std::optional<std::string> Child::read_error_line(double timeout_seconds)
{
  return line_of(error_, error_buffer_, timeout_seconds);
}

void Child::write_line(const std::string& line)
{
  const std::string text = line + "\n";
  if (::write(input_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw std::runtime_error("the child does not listen");
}

void Child::signal(int number) const { ::kill(pid_, number); }

int Child::wait()
{
  if (!status_) {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return *status_;
}

std::string Child::error_text()
{
  std::string text = std::exchange(error_buffer_, {});
  char bytes[4096];
  for (ssize_t got = 0; (got = ::read(error_.get(), bytes, sizeof bytes)) > 0;)
    text.append(bytes, static_cast<std::size_t>(got));
  return text;
}

Workload::Workload(std::vector<std::string> arguments, const std::string& program)
    : child_([&] {
        arguments.insert(arguments.begin(), program);
        return arguments;
      }())
{
  while (const auto line = child_.read_line(kDeadlineSeconds)) {
    for (auto& [key, value] : parse_facts(*line))
      facts_[key] = value;
    if (line->rfind("ready", 0) == 0)
      return;
  }
  child_.signal(SIGKILL);
  child_.wait();
  throw std::runtime_error("the workload did not get ready: " + child_.error_text());
}

Workload::~Workload()
{
  child_.close_input();
  child_.wait();
}

Facts Workload::command(const std::string& line)
{
  child_.write_line(line);
  const auto answer = child_.read_line(kDeadlineSeconds);
  if (!answer)
    throw std::runtime_error("no answer to '" + line + "'");
  if (answer->rfind("error", 0) == 0)
    throw std::runtime_error("'" + line + "': " + *answer);
  return parse_facts(*answer);
}

Observer::Observer(std::vector<std::string> arguments, const std::function<void()>& before_exec)
    : child_(
          [&] {
            arguments.insert(arguments.begin(), laggard_program());
            arguments.insert(arguments.end(), {"--output", "json"});
            if (const char* hook = std::getenv("LAGGARD_SWEEP_HOOK"); hook != nullptr)
              arguments.insert(arguments.end(), {"--hook", std::string("sweep=") + hook});
            return arguments;
          }(),
          before_exec)
{
}

bool Observer::take(double seconds)
{
  const auto text = child_.read_line(seconds);
  if (!text)
    return false;
  static const OutputSchema schema;
  for (const std::string& violation : schema.check(*text))
    ADD_FAILURE() << violation << "\n  in " << *text;
  lines_.push_back(Json::parse(*text));
  lines_.back()["test.arrived"] = now_seconds();
  return true;
}

void Observer::wait_started()
{
  const auto started = wait_for([](const Json& line) { return line["event.name"] == "laggard.agent.started"; });
  if (!started) {
    child_.signal(SIGKILL);
    child_.wait();
    throw std::runtime_error("laggard did not start: " + child_.error_text());
  }
}

std::optional<Json> Observer::wait_for(const std::function<bool(const Json&)>& wanted, double seconds)
{
  for (const Json& line : lines_)
    if (wanted(line))
      return line;
  const Deadline deadline{seconds};
  while (take(deadline.left()))
    if (wanted(lines_.back()))
      return lines_.back();
  return std::nullopt;
}

std::optional<Json> Observer::wait_for_finding(const std::string& kind, std::uint32_t pid, double seconds)
{
  return wait_for(
      [&](const Json& line) {
        return line["event.name"] == "laggard.finding.opened" && line["laggard.finding.kind"] == kind &&
               line.value("process.pid", 0U) == pid;
      },
      seconds);
}

void Observer::observe_for(double seconds)
{
  const Deadline deadline{seconds};
  while (deadline.left() > 0 && take(deadline.left())) {
  }
}

int Observer::stop()
{
  child_.signal(SIGTERM);
  while (take(kDeadlineSeconds)) {
  }
  return child_.wait();
}

std::vector<Json> Observer::findings(std::uint32_t pid) const
{
  std::vector<Json> found;
  for (const Json& line : lines_)
    if (line.contains("laggard.finding.id") && line.value("process.pid", 0U) == pid)
      found.push_back(line);
  return found;
}

Kernel::Kernel(const std::string& sweep_hook)
{
  source::live::LiveOptions options;
  options.max_cpu = 1;
  if (const char* hook = std::getenv("LAGGARD_READS_HOOK"); hook != nullptr)
    options.forced_hooks["reads"] = hook;
  if (const char* hook = std::getenv("LAGGARD_GROWTH_HOOK"); hook != nullptr)
    options.forced_hooks["growth"] = hook;
  if (const char* hook = std::getenv("LAGGARD_SWEEP_HOOK"); hook != nullptr)
    options.forced_hooks["sweep"] = hook;
  if (!sweep_hook.empty())
    options.forced_hooks["sweep"] = sweep_hook;
  auto opened = source::live::LiveSource::open(options);
  if (!opened)
    throw std::runtime_error(opened.error().message());
  source_ = std::move(*opened);
}

const model::Tick& Kernel::tick() { return take(true); }

const model::Tick& Kernel::session_tick()
{
  eventually([&] { return take(false).swept; });
  return tick_;
}

const model::Tick& Kernel::take(bool everything)
{
  auto raw = source_->tick(source::live::LiveSource::Look::All, everything);
  if (!raw)
    throw std::runtime_error(raw.error().message());
  auto decoded = source::decode(*raw);
  if (!decoded)
    throw std::runtime_error(decoded.error().message());
  tick_ = std::move(*decoded);
  // As the model does.
  for (const model::FullSample& sample : tick_.sockets)
    shown_.insert_or_assign(sample.cookie, sample);
  for (const model::StillSample& still : tick_.still) {
    tick_.sockets.push_back(shown_.at(still.cookie));
    tick_.sockets.back().time = still.time;
  }
  return tick_;
}

std::optional<model::FullSample> Kernel::look(std::uint64_t cookie)
{
  tick();
  for (auto sample = tick_.sockets.rbegin(); sample != tick_.sockets.rend(); ++sample)
    if (sample->cookie == cookie)
      return *sample;
  return std::nullopt;
}

std::string content(const std::string& path)
{
  std::ostringstream text;
  text << std::ifstream{path}.rdbuf();
  return text.str();
}

std::vector<Json> lines_of(const std::string& text)
{
  std::vector<Json> lines;
  std::istringstream stream{text};
  for (std::string line; std::getline(stream, line);)
    lines.push_back(Json::parse(line));
  return lines;
}

bool has_event(const std::string& path, const std::string& name)
{
  return content(path).find("\"event.name\":\"laggard.agent." + name + "\"") != std::string::npos;
}

double metric(const std::string& page, const std::string& name)
{
  double sum = 0;
  bool any = false;
  std::istringstream lines{page};
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name + " ") || line.starts_with(name + "{")) {
      sum += std::stod(line.substr(line.rfind(' ')));
      any = true;
    }
  return any ? sum : -1;
}

Directory::Directory()
{
  EXPECT_EQ(::chmod(path().c_str(), 0755), 0);
  directory("nobodys");
  EXPECT_EQ(::chown(at("nobodys").c_str(), kNobody, kNobody), 0);
}

bool can_observe() { return source::live::obstacle_to_loading().empty(); }

}  // namespace laggard::test
