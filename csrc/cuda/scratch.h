// A kernel's scratch memory on the device.
#pragma once

#include <cstdint>

namespace dragoman::cuda {

// From the core's caching allocator. At the end of the scope the next op may take it: kernels of one stream
// run in order.
class Scratch {
 public:
  explicit Scratch(int64_t nbytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  void* const data;  // 256-byte aligned

 private:
  int64_t nbytes_;
};

}  // namespace dragoman::cuda
