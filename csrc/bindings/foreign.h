// Python objects whose memory a Storage borrows.
#pragma once

#include <pybind11/pybind11.h>

namespace dragoman {

// For Storage: drops the reference to `object`. Without the GIL it is queued until somebody holds it; once
// the interpreter shuts down it is leaked.
void release_python_object(void* object);

}  // namespace dragoman
