#include "ops/int8_matmul.h"

#include "cpu/gemm/gemm.h"
#include "cpu/kernels.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

void int8_matmul(const Int8Matmul& p) {
  gemm_int8(p.m, p.n, p.k, p.a, p.b, p.c);
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
