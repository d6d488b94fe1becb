#include "ops/embedding.h"

#include <limits>

#include "core/backend.h"
#include "ops/dropout.h"
#include "ops/id_pieces.h"
#include "ops/indices.h"

namespace dragoman {

namespace {

void check_rows_of_ids(const char* op, const Tensor& ids, const Sequences& sequences) {
  check_indices(op, "ids", ids);
  check_rank(op, "ids", ids, 1);
  check_rows(op, "sequences", sequences, ids);
}

}  // namespace

std::optional<Tensor> checked_starts(const char* op, const std::optional<Tensor>& starts,
                                     const Sequences& sequences) {
  if (!starts) return std::nullopt;
  check_indices(op, "starts", *starts);
  check_shape(op, "starts", *starts, {sequences.size()});
  return checked_indices(op, "starts", *starts, sequences.size(), 0, std::numeric_limits<int32_t>::max());
}

void check_positions(const char* op, const char* argument, int64_t max_positions,
                     const std::optional<Tensor>& starts, const Sequences& sequences) {
  for (int64_t i = 0; i < sequences.size(); ++i) {
    const int64_t length = sequences.lengths()[i];
    const int64_t start = starts ? starts->data<int32_t>()[i] : 0;
    CHECK(length == 0 || start + length <= max_positions, op, ": ", argument, " must have at least ",
          start + length, " rows for sequence ", i, " (start ", start, ", length ", length, "), got ",
          max_positions);
  }
}

EmbeddingInputs checked_embedding_inputs(const Tensor& ids, const std::optional<Tensor>& positions,
                                         const std::optional<Tensor>& starts, const Sequences& sequences,
                                         int64_t vocabulary, int64_t features, Device device) {
  check_rows_of_ids("embedding", ids, sequences);
  const Tensor checked_ids = checked_indices("embedding", "ids", ids, sequences.tokens(), 0, vocabulary);
  const std::optional<Tensor> first_positions = checked_starts("embedding", starts, sequences);
  if (positions) {
    check_dtype("embedding", "positions", *positions, DType::float32);
    check_rank("embedding", "positions", *positions, 2);
    check_shape("embedding", "positions", *positions, {positions->dim(0), features});
    check_positions("embedding", "positions", positions->dim(0), first_positions, sequences);
  }
  return {checked_ids.to(device), to_device(first_positions, device)};
}

Tensor embedding_forward(const Tensor& ids, const Tensor& weight, const std::optional<Tensor>& positions,
                         const std::optional<Tensor>& starts, double scale, const Dropout& dropout,
                         const Sequences& sequences, const std::string& dtype) {
  const DType y_dtype = parse_activation_dtype("embedding", dtype);
  check_dtype("embedding", "weight", weight, DType::float32);
  check_rank("embedding", "weight", weight, 2);
  check_rank("embedding", "ids", ids, 1);
  const int64_t rows = ids.dim(0), features = weight.dim(1);
  const EmbeddingInputs inputs =
      checked_embedding_inputs(ids, positions, starts, sequences, weight.dim(0), features, weight.device());
  check_mask_size("embedding", dropout, rows, features);
  Tensor y = Tensor::empty({rows, features}, y_dtype, weight.device());
  kernels(weight).embedding_forward({.ids = inputs.ids.data<int32_t>(),
                                     .weight = weight.data<float>(),
                                     .positions = data_or_null(positions),
                                     .starts = data_or_null<int32_t>(inputs.starts),
                                     .y = y.raw(),
                                     .features = features,
                                     .dtype = y_dtype,
                                     .scale = static_cast<float>(scale),
                                     .dropout = dropout,
                                     .sequences = sequences.view(weight.device())});
  return y;
}

void embedding_backward(const Tensor& dy, const Tensor& ids, const std::optional<Tensor>& starts,
                        double scale, const Dropout& dropout, const Sequences& sequences,
                        const std::optional<Tensor>& dweight, bool accumulate_weight,
                        const std::optional<Tensor>& dpositions, bool accumulate_positions) {
  check_rows_of_ids("embedding_backward", ids, sequences);
  check_activations("embedding_backward", "dy", dy);
  check_rank("embedding_backward", "dy", dy, 2);
  const int64_t rows = ids.dim(0), features = dy.dim(1);
  check_shape("embedding_backward", "dy", dy, {rows, features});
  const std::optional<Tensor> first_positions = checked_starts("embedding_backward", starts, sequences);
  if (dweight) {
    check_rank("embedding_backward", "dweight", *dweight, 2);
    check_output("embedding_backward", "dweight", *dweight, {dweight->dim(0), features});
  }
  const Tensor checked_ids = checked_indices(
      "embedding_backward", "ids", ids, dweight ? sequences.tokens() : 0, 0, dweight ? dweight->dim(0) : 0);
  if (dpositions) {
    check_rank("embedding_backward", "dpositions", *dpositions, 2);
    check_output("embedding_backward", "dpositions", *dpositions, {dpositions->dim(0), features});
    check_positions("embedding_backward", "dpositions", dpositions->dim(0), first_positions, sequences);
  }
  check_mask_size("embedding_backward", dropout, rows, features);
  const Tensor device_ids = checked_ids.to(dy.device());
  const std::optional<Tensor> device_starts = to_device(first_positions, dy.device());
  std::optional<Tensor> order, pieces;  // the CPU's kernel takes the rows as they are
  if (dweight && dy.device() != cpu_device) {
    const IdPieces sorted = pieces_of(checked_ids, dweight->dim(0));
    order = sorted.order.to(dy.device());
    pieces = sorted.pieces.to(dy.device());
  }
  kernels(dy).embedding_backward({.dy = dy.raw(),
                                  .ids = device_ids.data<int32_t>(),
                                  .starts = data_or_null<int32_t>(device_starts),
                                  .dweight = data_or_null(dweight),
                                  .dpositions = data_or_null(dpositions),
                                  .order = data_or_null<int32_t>(order),
                                  .pieces = data_or_null<int32_t>(pieces),
                                  .num_pieces = pieces ? pieces->numel() - 1 : 0,
                                  .features = features,
                                  .vocabulary = dweight ? dweight->dim(0) : 0,
                                  .max_positions = dpositions ? dpositions->dim(0) : 0,
                                  .dtype = dy.dtype(),
                                  .scale = static_cast<float>(scale),
                                  .dropout = dropout,
                                  .accumulate_weight = accumulate_weight,
                                  .accumulate_positions = accumulate_positions,
                                  .sequences = sequences.view(dy.device())});
}

}  // namespace dragoman
