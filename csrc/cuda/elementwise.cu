#include "ops/elementwise.h"

#include "cuda/kernels.h"
#include "cuda/map.h"

namespace dragoman::cuda {

namespace {

__device__ float combine(BinaryKind kind, float a, float b) {
  switch (kind) {
    case BinaryKind::add:
      return a + b;
    case BinaryKind::subtract:
      return a - b;
    case BinaryKind::multiply:
      return a * b;
    case BinaryKind::divide:
      return a / b;
    case BinaryKind::maximum:
      return a != a || a > b ? a : b;
    default:
      return a > b ? 1.0f : a == b ? 0.5f : 0.0f;
  }
}

__device__ float load_one(const Operand& operand, int64_t row, int64_t column) {
  const int64_t at = row * operand.row_stride + column * operand.column_stride;
  return operand.dtype == DType::bfloat16 ? to_float(static_cast<const bf16*>(operand.data)[at])
                                          : static_cast<const float*>(operand.data)[at];
}

// A group from (row, column) on, of which `count` elements exist. It goes on in the next row where this one
// ends.
__device__ void load_operand(const Operand& operand, int64_t row, int64_t column, int64_t features,
                             int64_t count, float (&x)[8]) {
  if (operand.data != nullptr && operand.column_stride == 1 && column + group_size <= features) {
    const int64_t at = row * operand.row_stride + column;
    if (operand.dtype == DType::bfloat16) {
      load8(static_cast<const bf16*>(operand.data) + at, group_size, x);
    } else {
      load8(static_cast<const float*>(operand.data) + at, group_size, x);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < group_size; ++j) {
    x[j] = operand.data == nullptr || j >= count ? operand.number : load_one(operand, row, column);
    if (++column == features) {
      column = 0;
      ++row;
    }
  }
}

template <class Y>
__global__ void __launch_bounds__(block_threads) binary_kernel(Binary p) {
  const int64_t index = (int64_t{blockIdx.x} * block_threads + threadIdx.x) * group_size;
  const int64_t count = p.rows * p.features - index;
  if (count <= 0) return;
  const int64_t row = index / p.features, column = index - row * p.features;
  float a[8], b[8];
  load_operand(p.a, row, column, p.features, count, a);
  load_operand(p.b, row, column, p.features, count, b);
#pragma unroll
  for (int j = 0; j < 8; ++j) a[j] = combine(p.kind, a[j], b[j]);
  store8(static_cast<Y*>(p.y) + index, count, a);
}

// y = exp(x), log(x) or sqrt(x)
struct UnaryOf {
  UnaryKind kind;

  __device__ void operator()(int64_t, const float (&x)[1][8], float (&y)[1][8]) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      y[0][j] = kind == UnaryKind::exp   ? expf(x[0][j])
                : kind == UnaryKind::log ? logf(x[0][j])
                                         : sqrtf(x[0][j]);
    }
  }
};

struct AddScaled {
  float factor;

  __device__ void operator()(int64_t, const float (&x)[2][8], float (&y)[1][8]) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[0][j] + x[1][j] * factor;
  }
};

struct ScaleByMemory {
  const float* factor;

  __device__ void operator()(int64_t, const float (&x)[1][8], float (&y)[1][8]) const {
    const float value = *factor;
#pragma unroll
    for (int j = 0; j < 8; ++j) y[0][j] = x[0][j] * value;
  }
};

}  // namespace

void binary(const Binary& p) {
  with_dtype(p.dtype, [&](auto element) {
    using Y = decltype(element);
    launch(binary_kernel<Y>, grid_of(ceil_div(p.rows * p.features, block_threads * group_size)),
           block_threads, 0, p);
  });
}

void unary(const Unary& p) {
  map(p.dtype, {p.x}, {p.y}, all_rows(p.size), 1, UnaryOf{p.kind});
}

void accumulate(const Accumulate& p) {
  if (p.accumulate) return map(p.dtype, {p.y, p.x}, {p.y}, all_rows(p.size), 1, AddScaled{p.factor});
  map(p.dtype, {p.x}, {p.y}, all_rows(p.size), 1, Scale{p.factor});
}

void scale_by(const ScaleBy& p) {
  map(p.dtype, {p.y}, {p.y}, all_rows(p.size), 1, ScaleByMemory{p.factor});
}

void cast(const Cast& p) {
  with_dtype(p.from, [&](auto from) {
    with_dtype(p.to, [&](auto to) {
      map<decltype(from), decltype(to)>({p.x}, {p.y}, all_rows(p.size), 1, Scale{1.0f});
    });
  });
}

}  // namespace dragoman::cuda
