// SPDX-License-Identifier: MIT
// Sentences that more than one format says. What comes from programs is already escaped in them; see escape.h.
#pragma once

#include <string>
#include <string_view>

#include "output/sink.h"

namespace laggard::output {

std::string process_words(const detect::ProcessRef& process);  // "qt-viewer[4121]"
// "pod shop/cart-0/redis", "container 3f2a1b0c9d8e", "nginx.service"; empty: not known
std::string workload_words(const model::Workload& workload);
// "10.0.0.7:52114 <- 10.0.0.9:17725", "551 connections to 10.0.0.9:80", "*:53"; empty where the subject is a process.
std::string place_words(const detect::Finding& finding, std::string_view arrow);
std::string tuple_words(const model::Tuple& tuple, std::string_view arrow);
bool has_peer(const model::Tuple& tuple);

std::string resolution_words(const detect::Finding& finding);  // "process exited"
std::string hooks_words(const Observer& observer);             // "reads=tp_btf/sock_recv_length memory=off"

std::string finding_message(const detect::Finding& finding);
std::string started_message(const Observer& observer);
std::string degraded_message(const Degraded& degraded);
// Nothing found and could not look differ in the first words.
std::string stopped_message(const Summary& summary);
std::string socket_message(const SocketLine& line);

// "viewer[17] gained 24.0 MiB in 10 s, 97 % of it with what it read from 1 socket"
std::string explanation_message(const Explanation& explanation);
std::string explanation_socket_message(const Explanation& explanation, const Explanation::Socket& socket);
std::string explanation_stack_message(const Explanation& explanation, const Explanation::Stack& stack);
std::string_view where_id(Explanation::Where where);              // "within_read"
std::string frame_words(const Explanation::Frame& frame);         // "QRingBuffer::reserve(long long)+0x3a (libQt6Core.so.6)"

std::string join(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace laggard::output
