#include "test/arena.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <unordered_map>
#include <vector>

namespace dragoman::test {

namespace {

constexpr int64_t arena_size = int64_t{4} << 30;  // addresses only: pages come when they are written
constexpr int64_t growth = int64_t{1} << 20;      // a multiple of any page

struct sigaction previous_action;

// Says what happened, then lets the handler that stood before (or the system) end the process.
void report(int signal, siginfo_t* info, void* context);

class Arena {
 public:
  Arena() {
    void* mapping = mmap(nullptr, arena_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return;
    base_ = static_cast<char*>(mapping);
    struct sigaction action = {};
    action.sa_sigaction = report;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &previous_action);
  }

  void* allocate(int64_t size) {
    std::vector<void*>& blocks = free_blocks_[size];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      return block;
    }
    if (base_ == nullptr || size > arena_size - used_) return nullptr;
    used_ += size;
    return base_ + used_ - size;
  }

  void free(void* block, int64_t size) { free_blocks_[size].push_back(block); }

  void protect(int protection) {
    const int64_t pages = (used_ + growth - 1) / growth * growth;
    if (pages > 0) mprotect(base_, static_cast<size_t>(pages), protection);
  }

  bool holds(const void* address) const {
    return base_ != nullptr && address >= base_ && address < base_ + arena_size;
  }

 private:
  char* base_ = nullptr;
  int64_t used_ = 0;
  std::unordered_map<int64_t, std::vector<void*>> free_blocks_;  // by size
};

std::mutex& mutex() {
  static auto* made = new std::mutex;
  return *made;
}

Arena& arena() {
  static auto* made = new Arena;
  return *made;
}

void report(int, siginfo_t* info, void*) {
  if (arena().holds(info->si_addr)) {
    constexpr char text[] = "device test: the host touched device memory outside a kernel or a copy\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
  }
  sigaction(SIGSEGV, &previous_action, nullptr);
}

}  // namespace

void* arena_allocate(int64_t size) {
  const std::lock_guard lock(mutex());
  return arena().allocate(size);
}

void arena_free(void* block, int64_t size) {
  const std::lock_guard lock(mutex());
  arena().free(block, size);
}

bool in_arena(const void* address) {
  return arena().holds(address);
}

Access::Access() : lock_(mutex()) {
  arena().protect(PROT_READ | PROT_WRITE);
}

Access::~Access() {
  arena().protect(PROT_NONE);
}

}  // namespace dragoman::test
