#include "core/tensor.h"

#include "core/backend.h"

namespace dragoman {

constexpr int64_t max_elements = int64_t{1} << 48;  // elements

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    CHECK(size >= 0, "tensor: every size must be at least 0, got shape ", shape);
    CHECK(size == 0 || count <= max_elements / size, "tensor: at most 2^48 elements, got shape ", shape);
    count *= size;
  }
  return count;
}

Tensor::Tensor(std::shared_ptr<Storage> storage, int64_t byte_offset, Shape shape, DType dtype)
    : storage_(std::move(storage)),
      byte_offset_(byte_offset),
      shape_(std::move(shape)),
      numel_(element_count(shape_)),
      dtype_(dtype) {
  CHECK(byte_offset_ >= 0 && byte_offset_ + nbytes() <= storage_->nbytes(), "tensor: shape ", shape_,
        " does not fit in ", storage_->nbytes() - byte_offset_, " bytes");
}

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  const int64_t nbytes = element_count(shape) * item_size(dtype);
  return Tensor(std::make_shared<Storage>(nbytes, device), 0, std::move(shape), dtype);
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor tensor = empty(std::move(shape), dtype, device);
  tensor.fill_zero();
  return tensor;
}

Tensor Tensor::from_host(const void* data, Shape shape, DType dtype, Device device) {
  Tensor tensor = empty(std::move(shape), dtype, device);
  tensor.copy_from_host(data);
  return tensor;
}

Tensor Tensor::reshape(Shape shape) const {
  int64_t known = 1;
  int64_t* unknown = nullptr;
  for (int64_t& size : shape) {
    if (size == -1) {
      CHECK(unknown == nullptr, "reshape: shape must have at most one -1, got ", shape);
      unknown = &size;
    } else {
      CHECK(size >= 0, "reshape: shape must have sizes of at least -1, got ", shape);
      CHECK(size == 0 || known <= max_elements / size, "reshape: shape must hold ", numel_, " elements, got ",
            shape);
      known *= size;
    }
  }
  if (unknown != nullptr && known > 0 && numel_ % known == 0) *unknown = numel_ / known;
  CHECK((unknown == nullptr || *unknown >= 0) && element_count(shape) == numel_, "reshape: shape must hold ",
        numel_, " elements, got ", shape);
  return Tensor(storage_, byte_offset_, std::move(shape), dtype_);
}

Tensor Tensor::narrow(int64_t begin, int64_t size) const {
  CHECK(rank() > 0 && begin >= 0 && size >= 0 && begin + size <= dim(0), "narrow: rows [", begin, ", ",
        begin + size, ") must lie in a tensor of shape ", shape_);
  Shape shape = shape_;
  shape[0] = size;
  const int64_t row_elements = dim(0) > 0 ? numel_ / dim(0) : 0;
  return Tensor(storage_, byte_offset_ + begin * row_elements * item_size(dtype_), std::move(shape), dtype_);
}

Tensor Tensor::slice(int64_t first, Shape shape) const {
  const int64_t count = element_count(shape);
  CHECK(first >= 0 && first + count <= numel_, "slice: elements [", first, ", ", first + count,
        ") must lie in ", numel_);
  return Tensor(storage_, byte_offset_ + first * item_size(dtype_), std::move(shape), dtype_);
}

Tensor Tensor::clone() const {
  Tensor copy = empty(shape_, dtype_, device());
  if (numel_ > 0 && !Rehearsal::standing()) {
    memory(device()).copy(copy.raw(), raw(), nbytes(), CopyKind::within);
  }
  return copy;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  if (device == cpu_device) {
    Tensor copy = empty(shape_, dtype_);
    copy_to_host(copy.raw());
    return copy;
  }
  return this->device() == cpu_device ? from_host(raw(), shape_, dtype_, device) : to(cpu_device).to(device);
}

void Tensor::copy_from_host(const void* data) const {
  if (numel_ > 0 && !Rehearsal::standing()) {
    memory(device()).copy(raw(), data, nbytes(), CopyKind::to_device);
  }
  storage_->written();
}

void Tensor::copy_to_host(void* data) const {
  if (numel_ > 0 && !Rehearsal::standing()) {
    memory(device()).copy(data, raw(), nbytes(), CopyKind::to_host);
  }
}

void Tensor::fill_zero() const {
  if (numel_ > 0 && !Rehearsal::standing()) memory(device()).zero(raw(), nbytes());
  storage_->written();
}

std::optional<Tensor> to_device(const std::optional<Tensor>& tensor, Device device) {
  return tensor ? std::optional(tensor->to(device)) : std::nullopt;
}

void append(std::ostream& text, const Shape& shape) {
  text << "(";
  for (size_t axis = 0; axis < shape.size(); ++axis) text << (axis > 0 ? ", " : "") << shape[axis];
  text << (shape.size() == 1 ? ",)" : ")");
}

std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name(dtype);
}

void check_shape(const char* op, const char* argument, const Tensor& tensor, const Shape& expected) {
  CHECK(tensor.shape() == expected, op, ": ", argument, " must have shape ", expected, ", got ",
        tensor.shape());
}

void check_rank(const char* op, const char* argument, const Tensor& tensor, int64_t rank) {
  CHECK(tensor.rank() == rank, op, ": ", argument, " must have ", rank, " dimensions, got shape ",
        tensor.shape());
}

void check_dtype(const char* op, const char* argument, const Tensor& tensor, DType expected) {
  CHECK_TYPE(tensor.dtype() == expected, op, ": ", argument, " must be ", expected, ", got ", tensor.dtype());
}

void check_indices(const char* op, const char* argument, const Tensor& tensor) {
  check_dtype(op, argument, tensor, DType::int32);
  CHECK(tensor.device() == cpu_device, op, ": ", argument, " must be on cpu, got ", name(tensor.device()));
}

DType parse_activation_dtype(const char* op, const std::string& dtype) {
  if (dtype == "float32") return DType::float32;
  CHECK(dtype == "bfloat16", op, ": dtype must be float32 or bfloat16, got ", dtype);
  return DType::bfloat16;
}

void check_activations(const char* op, const char* argument, const Tensor& tensor) {
  CHECK_TYPE(tensor.dtype() == DType::float32 || tensor.dtype() == DType::bfloat16, op, ": ", argument,
             " must be float32 or bfloat16, got ", tensor.dtype());
}

void check_writeable(const char* op, const char* argument, const Tensor& tensor) {
  CHECK(tensor.writeable(), op, ": ", argument, " must be writeable, got a view of a read-only array");
}

void check_output(const char* op, const char* argument, const Tensor& tensor, const Shape& expected) {
  check_dtype(op, argument, tensor, DType::float32);
  check_shape(op, argument, tensor, expected);
  check_writeable(op, argument, tensor);
}

}  // namespace dragoman
