// SPDX-License-Identifier: MIT
#include "detect/incidents.h"

#include <algorithm>

namespace laggard::detect {
namespace {

bool is_about_memory(Kind kind) { return kind == Kind::UserSpaceBuffering || kind == Kind::HeapGrowth; }

// What is begun and never ended, or sent and never taken, is kept.
bool holds_memory(Kind kind)
{
  return kind == Kind::DeadPeer || kind == Kind::ConnectionLeak || kind == Kind::UnpairedOperations;
}

// The chain within one program: a lower rank causes a higher one.
std::optional<int> rank_of(Kind kind)
{
  switch (kind) {
    case Kind::StalledReader: return 0;
    case Kind::SlowReader: return 1;
    case Kind::UdpReceiveOverflow: return 2;
    case Kind::CloseWait: return 2;
    case Kind::AcceptBacklog: return 3;
    default: return std::nullopt;
  }
}

bool intersect(std::span<const model::ProcessId> a, std::span<const model::ProcessId> b)
{
  return std::ranges::any_of(a, [b](model::ProcessId id) { return std::ranges::binary_search(b, id); });
}

bool same_endpoint(const Subject& a, const Subject& b)
{
  if (a.is_whole || b.is_whole)
    return true;
  // A listener may be bound to every address, its connections are each to one.
  const bool same_address = a.endpoint.address == b.endpoint.address || a.endpoint.address.is_unspecified() ||
                            b.endpoint.address.is_unspecified();
  return a.netns == b.netns && a.transport == b.transport && a.server_side == b.server_side &&
         a.endpoint.port == b.endpoint.port && same_address;
}

// Without another hint: the kernel takes the same address for both ends, or one of 127.0.0.0/8.
bool stays_on_host(const model::Tuple& tuple)
{
  const auto is_loopback = [](const model::Address& address) { return !address.is_ipv6 && address.bytes[0] == 127; };
  return tuple.local.address == tuple.peer.address || (is_loopback(tuple.local.address) && is_loopback(tuple.peer.address));
}

// Of a finding with many members, which share a cause, so many are asked for it.
constexpr std::size_t kMembersAsked = 256;

template <class Ask>
void ask_members(const OpenFinding& finding, Ask ask)
{
  const std::size_t step = finding.members.size() / kMembersAsked + 1;
  for (std::size_t i = 0; i < finding.members.size(); i += step)
    ask(finding.members[i]);
}

class Linker {
 public:
  Linker(const model::Model& model, std::span<const OpenFinding> open) : model_(model), open_(open.begin(), open.end())
  {
    std::ranges::sort(open_, {}, &OpenFinding::id);
    for (const OpenFinding& finding : open_) {
      by_kind_[finding.subject->kind].push_back(&finding);
      for (const model::ProcessId process : finding.processes)
        by_process_.emplace(process, &finding);
    }
  }

  std::map<std::uint64_t, Links> run()
  {
    // Where one that was slow has stopped both are open for a while: the victim's cause changes once, and not back.
    for (const Kind kind : {Kind::StalledReader, Kind::SlowReader})
      for (const OpenFinding* finding : by_kind_[kind])
        link_victims(*finding);
    for (const OpenFinding& finding : open_)
      if (finding.subject->kind == Kind::AcceptBacklog)
        link_clients(finding);
      else if (holds_memory(finding.subject->kind))
        link_memory(finding);
    for (const OpenFinding& finding : open_)
      link_within_program(finding);
    return std::move(links_);
  }

 private:
  void link_victims(const OpenFinding& reader)
  {
    ask_members(reader, [&](std::uint64_t cookie) {
      const model::Connection* end = model_.find(cookie);
      const model::Connection* sender = end != nullptr ? model_.peer_of(*end) : nullptr;
      if (sender == nullptr || sender->send().empty())
        return;
      for (const OpenFinding* other : of_process(sender->process())) {
        if (other->subject->kind == Kind::RemoteSlowReader &&
            std::ranges::binary_search(other->members, sender->latest().cookie)) {
          links_[other->id].peer_finding = reader.id;
          links_[reader.id].peer_finding = other->id;
          follows(*other, reader);
        }
        if (is_about_memory(other->subject->kind))
          follows(*other, reader);
      }
    });
  }

  // A listener that nobody serves any more (a descriptor that was inherited, a server that hangs): its clients' connections to
  // the server before, and those that the same holder has inherited with it.
  void link_clients(const OpenFinding& listener)
  {
    const model::Connection* socket = find_any(listener);
    if (socket == nullptr)
      return;
    const model::SocketSample& server = socket->latest();
    const bool inherited = server.owner && server.owner != socket->process();
    for (const OpenFinding* other : by_kind_[Kind::CloseWait]) {
      const model::Connection* client = find_any(*other);
      if (client == nullptr)
        continue;
      const model::SocketSample& end = client->latest();
      const bool server_side = model_.is_server_side(end);
      const std::uint16_t port = server_side ? end.tuple.local.port : end.tuple.peer.port;
      if (port != server.tuple.local.port || end.netns != server.netns)
        continue;
      const bool is_own = inherited && server_side && intersect(other->processes, listener.processes);
      const bool is_client = !server_side && stays_on_host(end.tuple);
      if (is_own || is_client)
        follows(*other, listener);
    }
  }

  void link_memory(const OpenFinding& cause)
  {
    std::set<model::ProcessId> who{cause.processes.begin(), cause.processes.end()};
    const bool any_memory = !by_kind_[Kind::UserSpaceBuffering].empty() || !by_kind_[Kind::HeapGrowth].empty();
    if (cause.subject->kind == Kind::ConnectionLeak && any_memory)
      for (const auto& [cookie, end] : model_.pools().members())
        if (end.peer != 0 && std::ranges::binary_search(cause.members, end.peer))
          who.insert(end.process());
    for (const model::ProcessId process : who)
      for (const OpenFinding* other : of_process(process))
        if (is_about_memory(other->subject->kind))
          follows(*other, cause);
  }

  const model::Connection* find_any(const OpenFinding& finding) const
  {
    for (const std::uint64_t cookie : finding.members)
      if (const model::Connection* connection = model_.find(cookie))
        return connection;
    return nullptr;
  }

  std::vector<const OpenFinding*> of_process(model::ProcessId process) const
  {
    std::vector<const OpenFinding*> found;
    for (auto [one, last] = by_process_.equal_range(process); one != last; ++one)
      found.push_back(one->second);
    std::ranges::sort(found, {}, &OpenFinding::id);
    return found;
  }

  void link_within_program(const OpenFinding& symptom)
  {
    const auto rank = rank_of(symptom.subject->kind);
    if (!rank || *rank < 2)
      return;
    const OpenFinding* cause = nullptr;
    for (const model::ProcessId process : symptom.processes)
      for (const OpenFinding* other : of_process(process)) {
        const auto other_rank = rank_of(other->subject->kind);
        if (other_rank && *other_rank < *rank && same_endpoint(*other->subject, *symptom.subject) &&
            (cause == nullptr || *other_rank < *rank_of(cause->subject->kind)))
          cause = other;
      }
    if (cause != nullptr)
      follows(symptom, *cause);
  }

  void follows(const OpenFinding& symptom, const OpenFinding& cause)
  {
    Links& links = links_[symptom.id];
    if (links.symptom_of || links_[cause.id].symptom_of == symptom.id)
      return;
    links.symptom_of = cause.id;
    links_[cause.id].symptoms.insert(symptom.id);
  }

  const model::Model& model_;
  std::vector<OpenFinding> open_;
  std::map<Kind, std::vector<const OpenFinding*>> by_kind_;
  std::multimap<model::ProcessId, const OpenFinding*> by_process_;
  std::map<std::uint64_t, Links> links_;
};

}  // namespace

std::map<std::uint64_t, Links> link_incidents(const model::Model& model, std::span<const OpenFinding> open)
{
  return Linker{model, open}.run();
}

}  // namespace laggard::detect
