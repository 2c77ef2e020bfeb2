// SPDX-License-Identifier: MIT
// What a compiled BPF object says of itself, without loading it.
#pragma once

#include <map>
#include <set>
#include <string>

namespace laggard::test {

struct BpfObject {
  std::set<std::string> programs;  // functions that have a section of their own: what a SEC() names
  // Function, then field as "tcp_sock.rcv_nxt": how many of its instructions CO-RE relocates by the offset of that
  // field.
  std::map<std::string, std::map<std::string, int>> field_loads;
};

// Throws std::runtime_error where the file is no such object.
BpfObject read_bpf_object(const std::string& path);

}  // namespace laggard::test
