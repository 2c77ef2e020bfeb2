// SPDX-License-Identifier: MIT
// Ticks as bytes, for the tests of everything that reads them.
#pragma once

#include <laggard/abi/records.h>

#include <algorithm>
#include <cstring>

#include "source/decode.h"

namespace laggard::test {

#define LAGGARD_KIND_OF(name, number, type, first_bytes) \
  constexpr __u16 kind_of(const type&) { return LAGGARD_RECORD_##name; }
LAGGARD_RECORD_KINDS(LAGGARD_KIND_OF)
#undef LAGGARD_KIND_OF

// With its header filled in. Another `size` makes an older (shorter) or a newer (longer) writer's record of it.
template <class Record>
void append(source::RawTick& raw, Record record, std::size_t size = sizeof(Record))
{
  record.header.kind = kind_of(record);
  record.header.size = static_cast<__u16>(size);
  const std::size_t at = raw.size();
  raw.resize(at + size, std::byte{0xee});
  std::memcpy(raw.data() + at, &record, std::min(size, sizeof record));
}

template <class... Records>
source::RawTick raw_tick(const Records&... records)
{
  source::RawTick raw;
  (append(raw, records), ...);
  return raw;
}

}  // namespace laggard::test
