// SPDX-License-Identifier: MIT
#include "identify/usdt.h"

namespace laggard::identify {
namespace {

constexpr Elf64_Word kProbe = 3;                      // sys/sdt.h: the type of its notes
constexpr ByteView kOwner("stapsdt\0", 8);            // and their name
constexpr std::uint64_t kAddresses = 3 * sizeof(std::uint64_t);  // of probe, base and semaphore; then three texts

std::uint64_t padded(std::uint64_t bytes) { return (bytes + 3) / 4 * 4; }

}  // namespace

std::set<std::string> usdt_probes(ElfImage& image)
{
  std::set<std::string> probes;
  ElfSection* section = image.section(".note.stapsdt");
  ByteView rest = section != nullptr ? image.contents(*section) : ByteView{};
  while (const auto note = value_at<Elf64_Nhdr>(rest, 0)) {
    const ByteView owner = from(rest, sizeof *note).substr(0, note->n_namesz);
    const ByteView texts = from(from(rest, sizeof *note + padded(note->n_namesz)).substr(0, note->n_descsz), kAddresses);
    if (note->n_type == kProbe && owner == kOwner) {
      const std::string_view provider = image.name_at(texts, 0), name = image.name_at(texts, provider.size() + 1);
      if (!provider.empty() && !name.empty()) probes.insert(std::string(provider) + ":" + std::string(name));
    }
    rest = from(rest, sizeof *note + padded(note->n_namesz) + padded(note->n_descsz));
  }
  return probes;
}

}  // namespace laggard::identify
