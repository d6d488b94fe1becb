// The extension module dragoman._core.
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "core/check.h"
#include "core/cpu_count.h"
#include "core/parallel.h"

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

  bind_tensor(m);
  bind_dlpack(m);
  bind_ops(m);
  bind_program(m);

  m.def("cpu_isa", &cpu_isa, "The CPU instruction-set variant in use.");
  m.def("cpu_isas", &cpu_isas, "The variants this machine runs, best last.");
  m.def("cpu_count", &cpu_count, "root"_a = "/",
        "CPUs this process may keep busy, by its affinity and its control groups.");
  m.def("num_threads", &num_threads, "Threads that an op of the calling thread uses at most.");
  m.def("set_num_threads", &set_num_threads, "n"_a);
  const auto as_dict = [](const MemoryStats& stats) {
    return py::dict("allocated"_a = stats.allocated, "reserved"_a = stats.reserved,
                    "peak_allocated"_a = stats.peak_allocated);
  };
  m.def(
      "memory_stats", [as_dict] { return as_dict(memory_stats()); },
      "Bytes of tensors: allocated (in use), reserved (in use or cached) and peak_allocated (since the last "
      "reset).");
  py::class_<Rehearsal>(
      m, "Rehearsal",
      "From construction to stop(), this thread's ops take memory that is counted apart and do no work.")
      .def(py::init<>())
      .def("stop", &Rehearsal::stop)
      .def("memory_stats", [as_dict](const Rehearsal& rehearsal) { return as_dict(rehearsal.stats()); });
  m.def("reset_peak_memory_stats", &reset_peak_memory_stats,
        "Sets peak_allocated of memory_stats to what is allocated now.");
  m.def("empty_cache", &empty_cache, "Returns cached blocks of memory to the system.");
}
