#include "ops/activation.h"

#include "cpu/activation.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void activation_forward(const ActivationForward& p) {
  parallel_elements(p.rows, p.features, p.tokens, p.y, [&](int64_t begin, int64_t end) {
    const float* x = p.x + begin;
    float* y = p.y + begin;
    each_vector(end - begin,
                [&](int64_t i, auto part) { store(y + i, activate(load(x + i, part), p.activation), part); });
  });
}

void activation_backward(const ActivationBackward& p) {
  parallel_elements(p.rows, p.features, p.tokens, p.dx, [&](int64_t begin, int64_t end) {
    const float* x = p.x + begin;
    const float* dy = p.dy + begin;
    float* dx = p.dx + begin;
    each_vector(end - begin, [&](int64_t i, auto part) {
      store(dx + i, load(dy + i, part) * slope(load(x + i, part), p.activation), part);
    });
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
