// Recording op calls and replaying them.
#include "core/program.h"

#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/gil.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

void bind_program(py::module_& m) {
  py::class_<Program, std::shared_ptr<Program>>(m, "Program", "Recorded op calls, replayed on other inputs.")
      .def("replay", &Program::replay, "inputs"_a, py::call_guard<ReleaseGil>())
      .def("check_same", &Program::check_same, "other"_a)
      .def_property_readonly("op_names", &Program::op_names);
  py::class_<Recorder>(m, "Recorder",
                       "Writes down this thread's op calls from construction to finish() or stop().")
      .def(py::init<bool>(), "frozen"_a = false)
      .def("finish", &Recorder::finish, "inputs"_a, "outputs"_a)
      .def("stop", &Recorder::stop);
  m.def(
      "is_recording", [] { return Recorder::current() != nullptr && !Recorder::current()->frozen(); },
      "Whether this thread records a Program that follows its weights, and so takes no copies of them.");
}

}  // namespace dragoman
