// Tensor, Sequences and Dropout as Python classes.
#include "core/tensor.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <map>

#include "bindings/bindings.h"
#include "bindings/foreign.h"
#include "bindings/gil.h"
#include "core/program.h"
#include "core/read_floats.h"
#include "core/sequences.h"
#include "ops/linear.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

namespace {

DType parse_dtype(const std::string& text) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::int32, DType::int64, DType::boolean,
                            DType::int8, DType::uint8}) {
    if (text == name(dtype)) return dtype;
  }
  throw ValueError(concat("dtype: must be float32, bfloat16, int32, int64, bool, int8 or uint8, got ", text));
}

// NumPy has no bfloat16: such tensors travel as uint16, and the Python side views them through ml_dtypes.
py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return py::dtype::of<float>();
    case DType::bfloat16:
      return py::dtype::of<uint16_t>();
    case DType::int32:
      return py::dtype::of<int32_t>();
    case DType::int64:
      return py::dtype::of<int64_t>();
    case DType::boolean:
      return py::dtype::of<bool>();
    case DType::int8:
      return py::dtype::of<int8_t>();
    default:
      return py::dtype::of<uint8_t>();
  }
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

void check_array(const py::array& array, DType dtype) {
  CHECK_TYPE(array.dtype().is(numpy_dtype(dtype)) || array.dtype().equal(numpy_dtype(dtype)),
             "tensor: array must have dtype ", name(dtype), ", got ",
             py::str(array.dtype()).cast<std::string>());
  CHECK((array.flags() & py::array::c_style) != 0, "tensor: array must be C-contiguous");
}

Tensor from_numpy(py::array array, const std::string& dtype_text) {
  check_not_recording("a tensor of host values");
  const DType dtype = parse_dtype(dtype_text);
  check_array(array, dtype);
  Shape shape = shape_of(array);
  const bool writeable = array.writeable();
  void* data = const_cast<void*>(array.data());
  const int64_t nbytes = array.nbytes();
  auto storage = std::make_shared<Storage>(data, nbytes, cpu_device, writeable, array.release().ptr(),
                                           release_python_object);
  return Tensor(std::move(storage), 0, std::move(shape), dtype);
}

py::array to_numpy(const Tensor& tensor) {
  CHECK(Recorder::current() == nullptr,
        "record: the values of a tensor may not be read while a program is recorded");
  if (tensor.device() != cpu_device) {
    py::array copy(numpy_dtype(tensor.dtype()), tensor.shape());
    tensor.copy_to_host(copy.mutable_data());
    return copy;
  }
  auto owner = py::capsule(new Tensor(tensor), [](void* pointer) { delete static_cast<Tensor*>(pointer); });
  py::array array(numpy_dtype(tensor.dtype()), tensor.shape(), tensor.raw(), owner);
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

void copy_from(const Tensor& tensor, const py::array& array) {
  check_array(array, tensor.dtype());
  check_writeable("copy_", "tensor", tensor);
  CHECK(shape_of(array) == tensor.shape(), "copy_: array must have shape ", tensor.shape(), ", got ",
        shape_of(array));
  tensor.copy_from_host(array.data());
}

bool read(int descriptor, int64_t place, const std::string& dtype, const Tensor& out) {
  check_not_recording("a tensor of host values");
  int failed = 0;
  {
    const ReleaseGil released;
    failed = read_floats(descriptor, place, dtype, out);
  }
  if (failed > 0) {
    errno = failed;
    PyErr_SetFromErrno(PyExc_OSError);
    throw py::error_already_set();
  }
  return failed == 0;
}

}  // namespace

void bind_tensor(py::module_& m) {
  py::class_<Tensor>(m, "Tensor", "A contiguous array in the core's memory or borrowed from NumPy.")
      .def_static(
          "empty",
          [](Shape shape, const std::string& dtype, const std::string& device) {
            return Tensor::empty(std::move(shape), parse_dtype(dtype), parse_device("Tensor", device));
          },
          "shape"_a, "dtype"_a = "float32", "device"_a = "cpu")
      .def_static(
          "zeros",
          [](Shape shape, const std::string& dtype, const std::string& device) {
            return Tensor::zeros(std::move(shape), parse_dtype(dtype), parse_device("Tensor", device));
          },
          "shape"_a, "dtype"_a = "float32", "device"_a = "cpu")
      .def_static("from_numpy", from_numpy, "array"_a, "dtype"_a)
      .def("numpy", to_numpy, "A read-only view on the CPU, a copy from another device; bfloat16 as uint16.")
      .def("copy_", copy_from, "array"_a)
      .def("zero_",
           [](const Tensor& tensor) {
             check_writeable("zero_", "tensor", tensor);
             tensor.fill_zero();
           })
      .def("clone", &Tensor::clone)
      .def("narrow", &Tensor::narrow, "begin"_a, "size"_a)
      .def("slice", &Tensor::slice, "first"_a, "shape"_a)
      .def_property_readonly("shape",
                             [](const Tensor& tensor) { return py::tuple(py::cast(tensor.shape())); })
      .def_property_readonly("dtype", [](const Tensor& tensor) { return name(tensor.dtype()); })
      .def_property_readonly("device", [](const Tensor& tensor) { return name(tensor.device()); })
      .def_property_readonly("numel", &Tensor::numel)
      .def_property_readonly("nbytes", &Tensor::nbytes)
      .def_property_readonly("writeable", &Tensor::writeable)
      .def_property_readonly(
          "version", &Tensor::version,
          "Changes with copy_, zero_ and an optimizer's step, on any tensor over this memory; 0 "
          "where others may write.")
      .def_property_readonly("data_ptr",
                             [](const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.raw()); });

  py::class_<Sequences>(m, "Sequences", "Where each sequence of a ragged batch begins and how long it is.")
      .def(py::init([](std::vector<int64_t> lengths, std::optional<int64_t> capacity,
                       std::optional<int64_t> max_length) {
             check_not_recording("a Sequences");
             return Sequences(std::move(lengths), capacity, max_length);
           }),
           "lengths"_a, "capacity"_a = py::none(), "max_length"_a = py::none())
      .def_static(
          "slotted",
          [](std::vector<int64_t> lengths, int64_t slot) {
            check_not_recording("a Sequences");
            return Sequences::slotted(std::move(lengths), slot);
          },
          "lengths"_a, "slot"_a)
      .def(
          "select",
          [](const Sequences& sequences, const std::vector<int64_t>& indices) {
            check_not_recording("a Sequences");
            return sequences.select(indices);
          },
          "indices"_a)
      .def_property_readonly("lengths", &Sequences::lengths)
      .def_property_readonly("offsets",
                             [](const Sequences& sequences) {
                               const std::vector<int64_t>& from = sequences.offsets();
                               const std::vector<int32_t> offsets(from.begin(), from.end());
                               return Tensor::from_host(offsets.data(), {sequences.size() + 1}, DType::int32,
                                                        cpu_device);
                             })
      .def_property_readonly("index",
                             [](const Sequences& sequences) -> std::optional<Tensor> {
                               if (!sequences.is_indexed()) return std::nullopt;
                               const std::vector<int32_t>& rows = *sequences.index();
                               return Tensor::from_host(rows.data(), {static_cast<int64_t>(rows.size())},
                                                        DType::int32, cpu_device);
                             })
      .def_property_readonly("tokens", &Sequences::tokens)
      .def_property_readonly("capacity", &Sequences::capacity)
      .def_property_readonly("max_length", &Sequences::max_length)
      .def_property_readonly("packed", &Sequences::packed)
      .def("__len__", &Sequences::size)
      .def(
          "__eq__", [](const Sequences& a, const Sequences& b) { return a == b; }, py::is_operator())
      .def("__repr__", [](const Sequences& sequences) {
        return concat("Sequences(tokens=", sequences.tokens(), ", sequences=", sequences.size(),
                      ", capacity=", sequences.capacity(), ")");
      });
  m.attr("Sequences").attr("__hash__") = py::none();

  py::class_<Dropout>(m, "Dropout",
                      "The mask of one dropout: its rate and its place in the stream of random bits.")
      .def(py::init(
               [](double p, uint64_t seed, uint64_t step, uint32_t id, const std::optional<Tensor>& step_at) {
                 if (step_at) {
                   check_dtype("dropout", "step_at", *step_at, DType::int64);
                   check_shape("dropout", "step_at", *step_at, {});
                 }
                 return make_dropout(p, seed, step, id, data_or_null<int64_t>(step_at));
               }),
           "p"_a = 0.0, "seed"_a = 0, "step"_a = 0, "id"_a = 0, "step_at"_a = py::none(),
           py::keep_alive<1, 6>())
      .def_readonly("threshold", &Dropout::threshold)
      .def_readonly("scale", &Dropout::scale)
      .def_readonly("seed", &Dropout::seed)
      .def_readonly("step", &Dropout::step)
      .def_readonly("id", &Dropout::id);
  m.def(
      "packed_weight_size",
      [](const Shape& shape, const std::string& dtype, const std::string& device) {
        return packed_weight_size(shape, parse_dtype(dtype), parse_device("pack_weight", device));
      },
      "shape"_a, "dtype"_a, "device"_a = "cpu");
  m.def("read_floats", read, "descriptor"_a, "place"_a, "dtype"_a, "out"_a,
        "Fills a float32 tensor on the CPU from an open file; False where the file ends before.");
}

}  // namespace dragoman
