#include "ops/residual.h"

#include "cpu/dropout_mask.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

static void add_dropped(const ResidualForward& p, int64_t begin, int64_t end) {
  each_masked_vector(p.dropout, begin, end, [&](int64_t i, Vec factor, auto part) {
    store(p.y + i, load(p.residual + i, part) + load(p.x + i, part) * factor, part);
  });
}

static void add_all(const ResidualForward& p, int64_t begin, int64_t end) {
  each_vector(end - begin, [&](int64_t i, auto part) {
    store(p.y + begin + i, load(p.residual + begin + i, part) + load(p.x + begin + i, part), part);
  });
}

void residual_forward(const ResidualForward& p) {
  const auto body = p.dropout.threshold > 0 ? add_dropped : add_all;
  parallel_elements(p.rows, p.features, p.tokens, p.y,
                    [&](int64_t begin, int64_t end) { body(p, begin, end); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
