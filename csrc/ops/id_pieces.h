// The rows of each id, for backends that add up the gradient of a table in parallel.
#pragma once

#include "core/tensor.h"

namespace dragoman {

// A piece is a stretch of `order` with one id and at most 64 rows. So a frequent id has many pieces, and
// whoever adds an id's pieces in their order gets the same bits for any number of threads.
struct IdPieces {
  Tensor order;   // (rows,) int32: the rows by their ids; rows with the same id stay in their order
  Tensor pieces;  // (number of pieces + 1,) int32: where each begins in `order`; the last is `rows`
};

// ids (rows,) int32 on the CPU, each in [0, vocabulary).
IdPieces pieces_of(const Tensor& ids, int64_t vocabulary);

}  // namespace dragoman
