// Tensors to and from other libraries without a copy: DLPack's C structs, in Python capsules.
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "bindings/bindings.h"
#include "bindings/foreign.h"
#include "core/program.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

namespace {

// The ABI of DLPack 1.0 (github.com/dmlc/dlpack).
enum DLDeviceType : int32_t { dl_cpu = 1, dl_cuda = 2, dl_extension = 12 };

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null for C order
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor tensor;
  void* owner;
  void (*deleter)(DLManagedTensor*);
};

struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* owner;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

constexpr uint64_t read_only = 1;  // of flags

constexpr const char* capsule_name(const DLManagedTensor*) {
  return "dltensor";
}
constexpr const char* capsule_name(const DLManagedTensorVersioned*) {
  return "dltensor_versioned";
}
constexpr const char* used_name(const DLManagedTensor*) {
  return "used_dltensor";
}
constexpr const char* used_name(const DLManagedTensorVersioned*) {
  return "used_dltensor_versioned";
}

DLDevice to_dl(Device device) {
  switch (device.kind) {
    case Device::Kind::cpu:
      return {dl_cpu, 0};
    case Device::Kind::cuda:
      return {dl_cuda, device.index};
    default:
      return {dl_extension, 0};
  }
}

Device from_dl(DLDevice device) {
  if (device.device_type == dl_cpu) return cpu_device;
  CHECK(device.device_type == dl_cuda, "from_dlpack: x must be on the CPU or on CUDA, got DLPack device (",
        device.device_type, ", ", device.device_id, ")");
  return {Device::Kind::cuda, static_cast<int16_t>(device.device_id)};
}

DLDataType to_dl(DType dtype) {
  const auto bits = static_cast<uint8_t>(8 * item_size(dtype));
  switch (dtype) {
    case DType::float32:
      return {2, bits, 1};
    case DType::bfloat16:
      return {4, bits, 1};
    case DType::boolean:
      return {6, bits, 1};
    case DType::uint8:
      return {1, bits, 1};
    default:
      return {0, bits, 1};
  }
}

DType from_dl(DLDataType type) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::int32, DType::int64, DType::boolean,
                            DType::int8, DType::uint8}) {
    const DLDataType known = to_dl(dtype);
    if (type.code == known.code && type.bits == known.bits && type.lanes == 1) return dtype;
  }
  throw TypeError(concat("from_dlpack: x must be float32, bfloat16, int32, int64, bool, int8 or uint8, got ",
                         "DLPack type code ", int{type.code}, " of ", int{type.bits}, " bits, ", type.lanes,
                         " lanes"));
}

// What a consumer borrows; it calls the deleter, with or without the GIL, when it has done with it.
template <class Managed>
struct Export {
  explicit Export(const Tensor& source) : tensor(source), shape(source.shape()), strides(shape.size()) {
    int64_t stride = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
      strides[axis] = stride;
      stride *= shape[axis];
    }
    managed.tensor = {tensor.raw(),
                      to_dl(tensor.device()),
                      static_cast<int32_t>(shape.size()),
                      to_dl(tensor.dtype()),
                      shape.data(),
                      strides.data(),
                      0};
    managed.owner = this;
    managed.deleter = [](Managed* self) { delete static_cast<Export*>(self->owner); };
  }

  Tensor tensor;
  Shape shape;
  Shape strides;
  Managed managed{};
};

template <class Managed>
py::object make_capsule(std::unique_ptr<Export<Managed>> exported) {
  PyObject* capsule =
      PyCapsule_New(&exported->managed, capsule_name(&exported->managed), [](PyObject* object) {
        const char* unused = capsule_name(static_cast<Managed*>(nullptr));
        if (!PyCapsule_IsValid(object, unused)) return;  // a consumer took it and will call the deleter
        auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(object, unused));
        managed->deleter(managed);
      });
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::object>(capsule);
}

// The consumer's stream waits for the tensor's values; without one nothing does.
py::object to_dlpack(const Tensor& tensor, bool versioned, std::optional<uintptr_t> stream) {
  CHECK(Recorder::current() == nullptr,
        "record: the values of a tensor may not be read while a program is recorded");
  if (tensor.writeable()) tensor.storage()->lend();
  if (stream) memory(tensor.device()).let_wait(*stream);
  if (!versioned) {
    if (!tensor.writeable()) {
      throw py::buffer_error("__dlpack__: a read-only tensor needs max_version (1, 0), got an older one");
    }
    return make_capsule(std::make_unique<Export<DLManagedTensor>>(tensor));
  }
  auto exported = std::make_unique<Export<DLManagedTensorVersioned>>(tensor);
  exported->managed.major = 1;
  exported->managed.flags = tensor.writeable() ? 0 : read_only;
  return make_capsule(std::move(exported));
}

bool is_contiguous(const DLTensor& source) {
  if (source.strides == nullptr || std::count(source.shape, source.shape + source.ndim, 0) > 0) return true;
  int64_t stride = 1;
  for (int axis = source.ndim; axis-- > 0;) {
    if (source.shape[axis] != 1 && source.strides[axis] != stride) return false;
    stride *= source.shape[axis];
  }
  return true;
}

// Takes what the capsule holds: from here on a capsule of our own calls the deleter, with the GIL.
template <class Managed>
Tensor consume(const py::capsule& capsule, Managed* managed, bool writeable) {
  const DLTensor& source = managed->tensor;
  const Device device = from_dl(source.device);
  Shape shape(source.shape, source.shape + source.ndim);
  const DType dtype = from_dl(source.dtype);
  CHECK(is_contiguous(source), "from_dlpack: x must be C-contiguous, got shape ", shape, " with strides ",
        Shape(source.strides, source.strides + source.ndim));
  char* data = static_cast<char*>(source.data) + source.byte_offset;
  const int64_t nbytes = element_count(shape) * item_size(dtype);
  CHECK(nbytes == 0 || reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(item_size(dtype)) == 0,
        "from_dlpack: x must be aligned to its ", item_size(dtype), " byte elements");
  PyObject* owner = PyCapsule_New(managed, nullptr, [](PyObject* object) {
    auto* taken = static_cast<Managed*>(PyCapsule_GetPointer(object, nullptr));
    if (taken->deleter != nullptr) taken->deleter(taken);
  });
  if (owner == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), used_name(managed));
  auto storage = std::make_shared<Storage>(data, nbytes, device, writeable, owner, release_python_object);
  return Tensor(std::move(storage), 0, std::move(shape), dtype);
}

Tensor from_dlpack(const py::capsule& capsule) {
  check_not_recording("a tensor of another library's memory");
  const char* name = PyCapsule_GetName(capsule.ptr());
  const std::string kind = name == nullptr ? "" : name;
  if (kind == "dltensor") {
    return consume(capsule, static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), name)), true);
  }
  CHECK(kind == "dltensor_versioned",
        "from_dlpack: x must give a DLPack capsule not used before, got one named ", kind);
  auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), name));
  CHECK(managed->major == 1, "from_dlpack: x must speak DLPack version 1, got ", managed->major);
  return consume(capsule, managed, (managed->flags & read_only) == 0);
}

}  // namespace

void bind_dlpack(py::module_& m) {
  m.def(
      "dlpack_device",
      [](const Tensor& tensor) {
        const DLDevice device = to_dl(tensor.device());
        return py::make_tuple(device.device_type, device.device_id);
      },
      "tensor"_a, "What DLPack calls the tensor's device: its type and its index.");
  m.def(
      "dlpack_stream",
      [](int32_t type, int32_t index) { return memory(from_dl(DLDevice{type, index})).stream(); }, "type"_a,
      "index"_a,
      "The stream in which work on this device of DLPack runs, 0 without streams. ValueError unless tensors "
      "can "
      "lie there.");
  m.def("to_dlpack", to_dlpack, "tensor"_a, "versioned"_a, "stream"_a.none(true),
        "A DLPack capsule that shares the tensor's memory. What begins in `stream` later waits for its "
        "values.");
  m.def("from_dlpack", from_dlpack, "capsule"_a, "A Tensor over the memory of a DLPack capsule.");
}

}  // namespace dragoman
