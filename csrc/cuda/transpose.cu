#include "ops/transpose.h"

#include "cuda/copy_rows.h"
#include "cuda/kernels.h"

namespace dragoman::cuda {

namespace {

constexpr int tile = 32;

// A block turns one tile of 32 x 32 elements, through shared memory: reads and writes both follow rows.
template <class Element>
__global__ void __launch_bounds__(block_threads)
    transpose_kernel(const Element* x, Element* y, int64_t rows, int64_t columns) {
  __shared__ Element elements[tile][tile + 1];
  const int lane = threadIdx.x % tile, first = threadIdx.x / tile;
  const int64_t across = ceil_div(columns, tile);
  const int64_t first_row = blockIdx.x / across * tile, first_column = blockIdx.x % across * tile;
  for (int i = first; i < tile; i += block_threads / tile) {
    if (first_row + i < rows && first_column + lane < columns) {
      elements[i][lane] = x[(first_row + i) * columns + first_column + lane];
    }
  }
  __syncthreads();
  for (int i = first; i < tile; i += block_threads / tile) {
    if (first_column + i < columns && first_row + lane < rows) {
      y[(first_column + i) * rows + first_row + lane] = elements[lane][i];
    }
  }
}

// Row (column, row) of y.
struct ExchangedRows {
  Transpose p;
  int64_t row_bytes;

  __device__ RowCopy operator()(int64_t to) const {
    const int64_t column = to / p.rows, row = to - column * p.rows;
    return {static_cast<const char*>(p.x) + (row * p.columns + column) * row_bytes,
            static_cast<char*>(p.y) + to * row_bytes};
  }
};

template <class Element>
void transpose_elements(const Transpose& p) {
  launch(transpose_kernel<Element>, grid_of(ceil_div(p.rows, tile) * ceil_div(p.columns, tile)),
         block_threads, 0, static_cast<const Element*>(p.x), static_cast<Element*>(p.y), p.rows, p.columns);
}

}  // namespace

void transpose(const Transpose& p) {
  if (p.width == 1) {
    return p.dtype == DType::bfloat16 ? transpose_elements<uint16_t>(p) : transpose_elements<uint32_t>(p);
  }
  const int64_t row_bytes = p.width * item_size(p.dtype);
  copy_rows_by(p.rows * p.columns, row_bytes, address_of(p.x) | address_of(p.y), ExchangedRows{p, row_bytes});
}

}  // namespace dragoman::cuda
