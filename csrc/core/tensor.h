// A contiguous array: shape, dtype and a share in a Storage. Copies are shallow.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/storage.h"

namespace dragoman {

using Shape = std::vector<int64_t>;

class Tensor {
 public:
  Tensor(std::shared_ptr<Storage> storage, int64_t byte_offset, Shape shape, DType dtype);

  static Tensor empty(Shape shape, DType dtype = DType::float32, Device device = cpu_device);
  static Tensor zeros(Shape shape, DType dtype = DType::float32, Device device = cpu_device);
  static Tensor from_host(const void* data, Shape shape, DType dtype, Device device);  // copies `data`

  const Shape& shape() const { return shape_; }
  int64_t dim(int axis) const { return shape_[axis < 0 ? shape_.size() + axis : axis]; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t numel() const { return numel_; }
  int64_t nbytes() const { return numel_ * item_size(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_->device(); }
  bool writeable() const { return storage_->writeable(); }
  int64_t version() const { return storage_->version(); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  int64_t byte_offset() const { return byte_offset_; }

  void* raw() const { return static_cast<char*>(storage_->data()) + byte_offset_; }
  template <class T>
  T* data() const {
    return static_cast<T*>(raw());
  }

  Tensor reshape(Shape shape) const;  // same memory; one dimension may be -1
  Tensor narrow(int64_t begin,
                int64_t size) const;  // rows [begin, begin + size) of the first axis, same memory
  Tensor slice(int64_t first,
               Shape shape) const;  // `shape` elements from flat element `first` on, same memory
  Tensor clone() const;
  Tensor to(Device device) const;  // a copy; this tensor if it is on the device
  void copy_from_host(const void* data) const;
  void copy_to_host(void* data) const;
  void fill_zero() const;

 private:
  std::shared_ptr<Storage> storage_;
  int64_t byte_offset_;
  Shape shape_;
  int64_t numel_;
  DType dtype_;
};

std::ostream& operator<<(std::ostream& out, DType dtype);
int64_t element_count(const Shape& shape);  // ValueError on a negative size or more than 2^48 elements

// Checks of arguments. Messages name `op` and `argument`.
void check_shape(const char* op, const char* argument, const Tensor& tensor, const Shape& expected);
void check_rank(const char* op, const char* argument, const Tensor& tensor, int64_t rank);
void check_dtype(const char* op, const char* argument, const Tensor& tensor, DType expected);
DType parse_activation_dtype(const char* op, const std::string& dtype);  // "float32" or "bfloat16"
void check_indices(const char* op, const char* argument,
                   const Tensor& tensor);  // int32, on the CPU: the op reads it before its kernel does
void check_activations(const char* op, const char* argument, const Tensor& tensor);  // float32 or bfloat16
void check_writeable(const char* op, const char* argument, const Tensor& tensor);
// Checks a gradient or another output of the caller: float32, of this shape, writeable.
void check_output(const char* op, const char* argument, const Tensor& tensor, const Shape& expected);

std::optional<Tensor> to_device(const std::optional<Tensor>& tensor, Device device);

template <class T = float>
T* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->data<T>() : nullptr;
}

}  // namespace dragoman
