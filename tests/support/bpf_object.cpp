// SPDX-License-Identifier: MIT
#include "support/bpf_object.h"

#include <bpf/btf.h>
#include <fcntl.h>
#include <gelf.h>
#include <linux/bpf.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/fd.h"

namespace laggard::test {
namespace {

struct Function {
  std::string name;
  std::string section;
  std::size_t begin = 0;
  std::size_t end = 0;
};

// visit(name, header, data)
template <class Visit>
void for_each_section(Elf* elf, Visit visit)
{
  std::size_t names = 0;
  ::elf_getshdrstrndx(elf, &names);
  for (Elf_Scn* section = nullptr; (section = ::elf_nextscn(elf, section)) != nullptr;) {
    GElf_Shdr header{};
    ::gelf_getshdr(section, &header);
    visit(std::string(::elf_strptr(elf, names, header.sh_name)), header, ::elf_getdata(section, nullptr));
  }
}

std::vector<Function> functions_of(Elf* elf)
{
  std::vector<std::string> sections = {""};
  for_each_section(elf, [&](const std::string& name, const GElf_Shdr&, Elf_Data*) { sections.push_back(name); });
  std::vector<Function> functions;
  for_each_section(elf, [&](const std::string&, const GElf_Shdr& header, Elf_Data* data) {
    if (header.sh_type != SHT_SYMTAB) return;
    for (int i = 0; i < static_cast<int>(header.sh_size / header.sh_entsize); i++) {
      GElf_Sym symbol{};
      ::gelf_getsym(data, i, &symbol);
      if (GELF_ST_TYPE(symbol.st_info) == STT_FUNC)
        functions.push_back({::elf_strptr(elf, header.sh_link, symbol.st_name), sections.at(symbol.st_shndx),
                             symbol.st_value, symbol.st_value + symbol.st_size});
    }
  });
  return functions;
}

// Documentation/bpf/btf.rst: .BTF.ext
struct ExtHeader {
  __u16 magic;
  __u8 version;
  __u8 flags;
  __u32 header_bytes;
  __u32 offsets_and_lengths[4];  // of functions and of lines
  __u32 relocations_offset;
  __u32 relocations_bytes;
};
struct SectionHead {
  __u32 name;
  __u32 count;
};

template <class T>
T read_at(const __u8* bytes, std::size_t offset)
{
  T value{};
  std::memcpy(&value, bytes + offset, sizeof value);
  return value;
}

// Of an access "0:3:...": the outermost field.
std::string field_of(const btf* types, const bpf_core_relo& relocation)
{
  const std::string access = ::btf__name_by_offset(types, relocation.access_str_off);
  const btf_type* type = ::btf__type_by_id(types, relocation.type_id);
  const auto colon = access.find(':');
  if (colon == std::string::npos || !::btf_is_composite(type)) return {};
  const int member = std::atoi(access.c_str() + colon + 1);
  return std::string(::btf__name_by_offset(types, type->name_off)) + "." +
         ::btf__name_by_offset(types, ::btf_members(type)[member].name_off);
}

}  // namespace

BpfObject read_bpf_object(const std::string& path)
{
  const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  ::elf_version(EV_CURRENT);
  const std::unique_ptr<Elf, int (*)(Elf*)> elf{::elf_begin(fd.get(), ELF_C_READ, nullptr), ::elf_end};
  const std::unique_ptr<btf, void (*)(btf*)> types{::btf__parse_elf(path.c_str(), nullptr), ::btf__free};
  const __u8* bytes = nullptr;
  if (elf)
    for_each_section(elf.get(), [&](const std::string& name, const GElf_Shdr&, Elf_Data* data) {
      if (name == ".BTF.ext") bytes = static_cast<const __u8*>(data->d_buf);
    });
  if (!types || bytes == nullptr) throw std::runtime_error(path + " is no BPF object with BTF");

  BpfObject object;
  const std::vector<Function> functions = functions_of(elf.get());
  for (const Function& function : functions)
    if (function.section != ".text") object.programs.insert(function.name);

  const auto header = read_at<ExtHeader>(bytes, 0);
  std::size_t at = header.header_bytes + header.relocations_offset;
  const std::size_t end = at + header.relocations_bytes;
  const auto record_bytes = read_at<__u32>(bytes, at);
  for (at += sizeof(__u32); at < end;) {
    const auto head = read_at<SectionHead>(bytes, at);
    const std::string section = ::btf__name_by_offset(types.get(), head.name);
    at += sizeof head;
    for (__u32 i = 0; i < head.count; i++, at += record_bytes) {
      const auto relocation = read_at<bpf_core_relo>(bytes, at);
      if (relocation.kind != BPF_CORE_FIELD_BYTE_OFFSET) continue;
      for (const Function& function : functions)
        if (function.section == section && relocation.insn_off >= function.begin && relocation.insn_off < function.end)
          object.field_loads[function.name][field_of(types.get(), relocation)]++;
    }
  }
  return object;
}

}  // namespace laggard::test
