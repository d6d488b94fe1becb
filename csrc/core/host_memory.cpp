// The memory functions of the CPU.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "core/backend.h"

namespace dragoman {

namespace {

constexpr size_t alignment = 64;
constexpr int64_t huge_page = int64_t{2} << 20;
constexpr int64_t smallest_mapping = int64_t{256} << 10;  // a multiple of any page, and so are larger classes

// Large blocks are mappings of their own, which go back to the system whatever lies beside them. From the
// size of a huge page on they ask for such pages, which spares most of the address translation.
void* map(int64_t size) {
  const size_t length = static_cast<size_t>(size), spare = size >= huge_page ? huge_page : 0;
  void* mapping = mmap(nullptr, length + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  if (spare == 0) return mapping;
  char* begin = static_cast<char*>(mapping);
  char* block = begin + (spare - reinterpret_cast<uintptr_t>(begin) % spare) % spare;
  if (block > begin) munmap(begin, static_cast<size_t>(block - begin));
  if (block < begin + spare) munmap(block + length, static_cast<size_t>(begin + spare - block));
  madvise(block, length, MADV_HUGEPAGE);
  return block;
}

void* allocate(int64_t size) {
  return size >= smallest_mapping ? map(size) : std::aligned_alloc(alignment, static_cast<size_t>(size));
}

void free(void* block, int64_t size) {
  if (size >= smallest_mapping) {
    munmap(block, static_cast<size_t>(size));
  } else {
    std::free(block);
  }
}

}  // namespace

extern const Memory host_memory;
constinit const Memory host_memory = {
    .allocate = allocate,
    .free = free,
    .copy = [](void* to, const void* from, int64_t nbytes,
               CopyKind) { std::memcpy(to, from, static_cast<size_t>(nbytes)); },
    .zero = [](void* data, int64_t nbytes) { std::memset(data, 0, static_cast<size_t>(nbytes)); },
    .synchronize = [] {},
    .stream = [] { return uintptr_t{0}; },
    .let_wait = [](uintptr_t) {},
    .cached = true,
};

}  // namespace dragoman
