#include "core/storage.h"

#include "core/allocator.h"
#include "core/backend.h"

namespace dragoman {

namespace {

int64_t next_version() {
  static std::atomic<int64_t> last{0};
  return ++last;
}

}  // namespace

Storage::Storage(int64_t nbytes, Device device)
    : allocator_(current_allocator(device)),
      data_(allocator_->allocate(nbytes)),
      nbytes_(nbytes),
      device_(device),
      writeable_(true),
      version_(next_version()) {}

Storage::Storage(void* data, int64_t nbytes, Device device, bool writeable, void* owner,
                 void (*release)(void*))
    : data_(data),
      nbytes_(nbytes),
      device_(device),
      writeable_(writeable),
      owner_(owner),
      release_(release) {}

void Storage::written() {
  int64_t held = version_;
  if (held != 0) version_.compare_exchange_strong(held, next_version());
}

Storage::~Storage() {
  if (version_ == 0 &&
      device_ != cpu_device) {  // other libraries may be at work there, on streams of their own
    try {
      memory(device_).synchronize();
    } catch (const std::exception&) {
    }
  }
  if (release_ != nullptr) {
    release_(owner_);
  } else {
    allocator_->free(data_, nbytes_);
  }
}

Scratch::Scratch(int64_t nbytes) : data(current_allocator(cpu_device)->allocate(nbytes)), nbytes_(nbytes) {}
Scratch::~Scratch() {
  current_allocator(cpu_device)->free(data, nbytes_);
}

}  // namespace dragoman
