// The parts of the extension module `_core`.
#pragma once

#include <pybind11/pybind11.h>

#include "core/backend.h"

namespace dragoman {

void bind_tensor(pybind11::module_& m);
void bind_dlpack(pybind11::module_& m);
void bind_attention(pybind11::module_& m);
void bind_ops(pybind11::module_& m);
void bind_program(pybind11::module_& m);
void bind_decode(pybind11::module_& m);
void bind_exchange(pybind11::module_& m);

}  // namespace dragoman
