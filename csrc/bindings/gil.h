// Letting other Python threads run during an op.
#pragma once

#include <pybind11/pybind11.h>

namespace dragoman {

// As pybind11's gil_scoped_release, but a daemon thread may end in it: CPython before 3.14 unwinds a thread
// that asks for the GIL while the interpreter shuts down, and a destructor that may not throw would end the
// process.
class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ~ReleaseGil() noexcept(false) { PyEval_RestoreThread(state_); }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace dragoman
