// Steps of a search.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "decode/replayed_steps.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

void bind_decode(py::module_& m) {
  py::class_<Entry>(m, "Entry", "What a request brings: source ids and the ids that the decoder reads first.")
      .def(py::init<std::vector<int32_t>, std::vector<int32_t>>(), "source"_a, "prefix"_a)
      .def_readonly("source", &Entry::source)
      .def_readonly("prefix", &Entry::prefix);
  py::class_<Steps, std::shared_ptr<Steps>>(m, "Steps", "What a search asks of a model: rows of logits.")
      .def("add", &Steps::add, "entries"_a, py::call_guard<ReleaseGil>())
      .def("next", &Steps::next, "ids"_a, "parents"_a, py::call_guard<ReleaseGil>());
  py::class_<StepPrograms, std::shared_ptr<StepPrograms>>(
      m, "StepPrograms", "A model's recorded steps, for sources and texts up to some length.")
      .def(py::init<std::shared_ptr<Program>, std::shared_ptr<Program>, bool, int64_t, int64_t>(), "first"_a,
           "step"_a, "reads_source"_a, "longest_source"_a, "longest"_a)
      .def_readonly("longest_source", &StepPrograms::longest_source)
      .def_readonly("longest", &StepPrograms::longest);
  // The function is called, and ends, with the GIL: pybind11 sees to both.
  py::class_<ReplayedSteps, Steps, std::shared_ptr<ReplayedSteps>>(m, "ReplayedSteps",
                                                                   "Steps of recorded Programs and a cache.")
      .def(py::init([](std::shared_ptr<StepPrograms> programs,
                       std::function<std::shared_ptr<StepPrograms>(int64_t, int64_t)> renew) {
             return std::make_shared<ReplayedSteps>(std::move(programs), std::move(renew));
           }),
           "programs"_a, "renew"_a);
}

}  // namespace dragoman
