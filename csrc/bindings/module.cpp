// The extension module dragoman._core.
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "core/check.h"
#include "core/cpu_count.h"
#include "core/parallel.h"
#include "core/startable.h"
#include "test/test_device.h"

namespace py = pybind11;
using namespace py::literals;

PYBIND11_MODULE(_core, m) {
  using namespace dragoman;
  m.doc() = "The C++ core of dragoman.";

  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const TypeError& error) {
      py::set_error(PyExc_TypeError, error.what());
    }
  });

  py::register_exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError).attr("__module__") =
      "dragoman";

  bind_tensor(m);
  bind_dlpack(m);
  bind_attention(m);
  bind_ops(m);
  bind_program(m);
  bind_decode(m);
  bind_exchange(m);

  m.def("cpu_isa", &cpu_isa, "The CPU instruction-set variant in use.");
  m.def("cpu_isas", &cpu_isas, "The variants this machine runs, best last.");
  m.def("cpu_count", &cpu_count, "root"_a = "/",
        "CPUs this process may keep busy, by its affinity and its control groups.");
  m.def("num_threads", &num_threads, "Threads that an op of the calling thread uses at most.");
  m.def("set_num_threads", &set_num_threads, "n"_a);
  m.def("startable_threads", &startable, "n"_a, "How many of n threads, at most 1024, can be started now.");
  const auto as_dict = [](const MemoryStats& stats) {
    return py::dict("allocated"_a = stats.allocated, "reserved"_a = stats.reserved,
                    "peak_allocated"_a = stats.peak_allocated);
  };
  m.def(
      "memory_stats",
      [as_dict](const std::string& device) {
        return as_dict(memory_stats(parse_device("memory_stats", device)));
      },
      "device"_a = "cpu",
      "Bytes of tensors on a device: allocated, reserved (in use or cached) and peak_allocated (since the "
      "last reset).");
  py::class_<Rehearsal>(
      m, "Rehearsal",
      "From construction to stop(), this thread's ops take memory that is counted apart and do no work.")
      .def(py::init<>())
      .def("stop", &Rehearsal::stop)
      .def("memory_stats", [as_dict](const Rehearsal& rehearsal) { return as_dict(rehearsal.stats()); });
  m.def(
      "reset_peak_memory_stats",
      [](const std::string& device) {
        reset_peak_memory_stats(parse_device("reset_peak_memory_stats", device));
      },
      "device"_a = "cpu", "Sets peak_allocated of memory_stats to what is allocated now.");
  m.def(
      "empty_cache", [](const std::string& device) { empty_cache(parse_device("empty_cache", device)); },
      "device"_a = "cpu", "Returns cached blocks of memory to the system.");

  m.def(
      "check_device",
      [](const std::string& op, const std::string& device) { memory(parse_device(op.c_str(), device)); },
      "op"_a, "device"_a, "ValueError, in the name of `op`, unless tensors can lie on this device.");
  m.def(
      "test_device_counts",
      [] {
        const test::Counts counts = test::counts();
        return py::dict("allocations"_a = counts.allocations, "uploads"_a = counts.uploads,
                        "downloads"_a = counts.downloads, "kernels"_a = counts.kernels);
      },
      "Calls that the device test has served.");
  m.def("test_device_fail_allocation", &test::fail_allocation, "k"_a,
        "The k-th allocation on the device test from now on fails, once; 0: none.");
  m.def("test_device_fail_kernel", &test::fail_kernel, "name"_a,
        "The next call of this kernel on the device test fails, once; \"\": none.");
}
