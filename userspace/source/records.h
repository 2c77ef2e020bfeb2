// SPDX-License-Identifier: MIT
// Records of a tick by kind, for who looks for some of them only, or adds some. decode() is for all, and for what may be damaged.
#pragma once

#include <laggard/abi/records.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "source/decode.h"

namespace laggard::source {

// A longer record comes from a newer writer: its tail is ignored. A shorter one: the missing tail is 0, "absent".
template <class Record>
Record take(std::span<const std::byte> bytes)
{
  Record record{};
  std::memcpy(&record, bytes.data(), std::min(bytes.size(), sizeof record));
  return record;
}

// visit(kind, bytes of the record), until something is no record.
template <class Visit>
void for_each_record(std::span<const std::byte> raw, Visit visit)
{
  while (raw.size() >= sizeof(laggard_record_header)) {
    const auto header = take<laggard_record_header>(raw.first(sizeof(laggard_record_header)));
    if (header.size < sizeof header || header.size > raw.size())
      return;
    visit(header.kind, raw.first(header.size));
    raw = raw.subspan(header.size);
  }
}

template <class Record>
void append(RawTick& to, const Record& record)
{
  const auto* bytes = reinterpret_cast<const std::byte*>(&record);
  to.insert(to.end(), bytes, bytes + sizeof record);
}

template <std::size_t N>
void copy_text(char (&to)[N], const std::string& from)
{
  std::memcpy(to, from.data(), std::min(from.size(), N));
}

}  // namespace laggard::source
