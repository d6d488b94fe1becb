#include "ops/slice.h"

#include "cuda/copy_rows.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

struct StridedRows {
  CopyRows p;

  __device__ RowCopy operator()(int64_t row) const {
    return {static_cast<const char*>(p.x) + row * p.x_stride, static_cast<char*>(p.y) + row * p.y_stride};
  }
};

}  // namespace

void copy_rows(const CopyRows& p) {
  const uint64_t strides = p.rows == 1 ? 0 : static_cast<uint64_t>(p.x_stride | p.y_stride);
  copy_rows_by(p.rows, p.row_bytes, address_of(p.x) | address_of(p.y) | strides, StridedRows{p});
}

}  // namespace dragoman::cuda
