#include "bindings/foreign.h"

#include <pthread.h>

#include <mutex>
#include <new>
#include <vector>

namespace dragoman {

namespace {

struct ReleaseQueue {
  std::mutex mutex;
  std::vector<PyObject*> objects;
};

ReleaseQueue& release_queue() {
  static ReleaseQueue* queue = new ReleaseQueue;
  return *queue;
}

// Whoever drops a tensor without the GIL may hold the lock while another thread forks.
[[maybe_unused]] const int fork_handler =
    pthread_atfork([] { release_queue().mutex.lock(); }, [] { release_queue().mutex.unlock(); },
                   [] { release_queue().mutex.unlock(); });

// Runs with the GIL held. References are dropped outside the lock: a destructor may free other Tensors.
int drain(void*) {
  std::vector<PyObject*> objects;
  {
    const std::lock_guard lock(release_queue().mutex);
    objects.swap(release_queue().objects);
  }
  for (PyObject* object : objects) Py_DECREF(object);
  return 0;
}

bool shutting_down() {
#if PY_VERSION_HEX >= 0x030D0000
  return !Py_IsInitialized() || Py_IsFinalizing();
#else
  return !Py_IsInitialized() || _Py_IsFinalizing();
#endif
}

}  // namespace

void release_python_object(void* object) {
  if (shutting_down()) return;
  if (PyGILState_Check()) {
    Py_DECREF(static_cast<PyObject*>(object));
    return;
  }
  try {
    const std::lock_guard lock(release_queue().mutex);
    release_queue().objects.push_back(static_cast<PyObject*>(object));
  } catch (const std::bad_alloc&) {
    return;  // a destructor asks, which may not throw: the object is leaked
  }
  Py_AddPendingCall(drain, nullptr);  // a full list of pending calls holds another drain already
}

}  // namespace dragoman
