// Tensors on their way between processes.
#include "core/exchange.h"

#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/gil.h"

namespace py = pybind11;
using namespace py::literals;

namespace dragoman {

void bind_exchange(py::module_& m) {
  m.def("exchange_version", exchange_version, "The version of NCCL that was found.");
  m.def(
      "exchange_id", [] { return py::bytes(exchange_id()); },
      "An identity by which processes join. One of them makes it.");
  m.def("join_exchange", join_exchange, "id"_a, "rank"_a, "size"_a, py::call_guard<ReleaseGil>(),
        "Begins to join the other processes, each of which has a GPU of its own.");
  m.def("exchange_ready", exchange_ready, py::call_guard<ReleaseGil>(),
        "Whether all have joined, and the device has the group that was started last.");
  m.def("start_exchange", start_exchange, "sends"_a, "receives"_a, py::call_guard<ReleaseGil>(),
        "Starts a group of sends and receives, each the other process's rank and a float32 tensor; its "
        "number.");
  m.def("exchange_done", exchange_done, "number"_a, py::call_guard<ReleaseGil>(),
        "Whether the groups up to this one have ended.");
  m.def("leave_exchange", leave_exchange, py::call_guard<ReleaseGil>(), "Ends what is under way.");
}

}  // namespace dragoman
