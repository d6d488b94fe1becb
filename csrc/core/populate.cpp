#include "core/populate.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/parallel.h"

namespace dragoman {

#ifndef MADV_POPULATE_WRITE  // of Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif

void populate(void* data, int64_t nbytes) noexcept {
  constexpr int64_t huge_page = int64_t{2} << 20;
  if (nbytes < 2 * huge_page) return;
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = reinterpret_cast<intptr_t>(data) / page * page;
  const int64_t end = reinterpret_cast<intptr_t>(data) + nbytes;
  const int64_t before = first / huge_page;  // huge pages of the address space
  parallel_for(end / huge_page + 1 - before, 1, [&](int64_t i, int64_t) {
    const int64_t from = (before + i) * huge_page;
    const int64_t begin = from > first ? from : first;
    const int64_t length = (from + huge_page < end ? from + huge_page : end) - begin;
    // Older systems refuse. Then the pages come when they are written.
    if (length > 0) madvise(reinterpret_cast<void*>(begin), static_cast<size_t>(length), MADV_POPULATE_WRITE);
  });
}

}  // namespace dragoman
