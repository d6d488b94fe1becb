#include "ops/gather.h"

#include "cuda/copy_rows.h"
#include "cuda/kernels.h"
#include "ops/embedding.h"

namespace dragoman::cuda {

namespace {

struct GatheredRows {
  GatherForward p;

  __device__ RowCopy operator()(int64_t i) const {
    return {static_cast<const char*>(p.x) + p.ids[i] * p.row_bytes,
            static_cast<char*>(p.y) + i * p.row_bytes};
  }
};

}  // namespace

void gather_forward(const GatherForward& p) {
  copy_rows_by(p.num_ids, p.row_bytes, address_of(p.x) | address_of(p.y), GatheredRows{p});
}

// As the gradient of a table.
void gather_backward(const GatherBackward& p) {
  if (p.rows == 0) return;
  EmbeddingBackward table = {};
  table.dy = p.dy, table.ids = p.ids, table.dweight = p.dx;
  table.order = p.order, table.pieces = p.pieces, table.num_pieces = p.num_pieces;
  table.features = p.features, table.vocabulary = p.rows;
  table.dtype = p.dtype, table.scale = 1.0f;
  embedding_backward(table);
}

}  // namespace dragoman::cuda
