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

bool same_program_and_endpoint(const Subject& a, const Subject& b)
{
  // A listener may be bound to every address, its connections are each to one.
  const bool same_address = a.endpoint.address == b.endpoint.address || a.endpoint.address.is_unspecified() ||
                            b.endpoint.address.is_unspecified();
  return a.process == b.process && a.netns == b.netns && a.transport == b.transport && a.server_side == b.server_side &&
         a.endpoint.port == b.endpoint.port && same_address;
}

// Without another hint: the kernel takes the same address for both ends, or one of 127.0.0.0/8.
bool stays_on_host(const model::Tuple& tuple)
{
  const auto is_loopback = [](const model::Address& address) { return !address.is_ipv6 && address.bytes[0] == 127; };
  return tuple.local.address == tuple.peer.address || (is_loopback(tuple.local.address) && is_loopback(tuple.peer.address));
}

class Linker {
 public:
  Linker(const model::Model& model, std::span<const OpenFinding> open) : model_(model), open_(open.begin(), open.end())
  {
    std::ranges::sort(open_, {}, &OpenFinding::id);
  }

  std::map<std::uint64_t, Links> run()
  {
    // Where one that was slow has stopped both are open for a while: the victim's cause changes once, and not back.
    for (const Kind kind : {Kind::StalledReader, Kind::SlowReader})
      for (const OpenFinding& finding : open_)
        if (finding.subject->kind == kind)
          link_victims(finding);
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
    for (std::uint64_t cookie : *reader.members) {
      const model::Connection* end = model_.find(cookie);
      const model::Connection* sender = end != nullptr ? model_.peer_of(*end) : nullptr;
      if (sender == nullptr || sender->send().empty())
        continue;
      for (const OpenFinding& other : open_) {
        if (other.subject->kind == Kind::RemoteSlowReader && other.members->contains(sender->latest().cookie)) {
          links_[other.id].peer_finding = reader.id;
          links_[reader.id].peer_finding = other.id;
          follows(other, reader);
        }
        if (is_about_memory(other.subject->kind) && other.subject->process == sender->process())
          follows(other, reader);
      }
    }
  }

  // A listener that nobody serves any more (a descriptor that was inherited, a server that hangs): its clients' connections to
  // the server before, and those that the same holder has inherited with it.
  void link_clients(const OpenFinding& listener)
  {
    const Subject& server = *listener.subject;
    const model::Connection* socket = find_any(*listener.members);
    const bool inherited = socket != nullptr && socket->latest().owner && socket->latest().owner != socket->process();
    for (const OpenFinding& other : open_) {
      const Subject& subject = *other.subject;
      if (subject.kind != Kind::CloseWait || subject.endpoint.port != server.endpoint.port || subject.netns != server.netns)
        continue;
      const model::Connection* client = find_any(*other.members);
      const bool is_own = inherited && subject.server_side && subject.process == server.process;
      const bool is_client = !subject.server_side && client != nullptr && stays_on_host(client->latest().tuple);
      if (is_own || is_client)
        follows(other, listener);
    }
  }

  void link_memory(const OpenFinding& cause)
  {
    std::set<model::ProcessId> who{cause.subject->process};
    const auto is_memory = [](const OpenFinding& other) { return is_about_memory(other.subject->kind); };
    if (cause.subject->kind == Kind::ConnectionLeak && std::ranges::any_of(open_, is_memory))
      for (const auto& [cookie, end] : model_.pools().members())
        if (end.peer != 0 && cause.members->contains(end.peer))
          who.insert(end.process());
    for (const OpenFinding& other : open_)
      if (is_memory(other) && who.contains(other.subject->process))
        follows(other, cause);
  }

  const model::Connection* find_any(const std::set<std::uint64_t>& members) const
  {
    for (std::uint64_t cookie : members)
      if (const model::Connection* connection = model_.find(cookie))
        return connection;
    return nullptr;
  }

  void link_within_program(const OpenFinding& symptom)
  {
    const auto rank = rank_of(symptom.subject->kind);
    const OpenFinding* cause = nullptr;
    for (const OpenFinding& other : open_) {
      const auto other_rank = rank_of(other.subject->kind);
      if (rank && other_rank && *rank >= 2 && *other_rank < *rank &&
          same_program_and_endpoint(*other.subject, *symptom.subject) &&
          (cause == nullptr || *other_rank < *rank_of(cause->subject->kind)))
        cause = &other;
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
  std::map<std::uint64_t, Links> links_;
};

}  // namespace

std::map<std::uint64_t, Links> link_incidents(const model::Model& model, std::span<const OpenFinding> open)
{
  return Linker{model, open}.run();
}

}  // namespace laggard::detect
