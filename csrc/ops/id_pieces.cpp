#include "ops/id_pieces.h"

#include <algorithm>
#include <vector>

namespace dragoman {

IdPieces pieces_of(const Tensor& ids, int64_t vocabulary) {
  constexpr int32_t piece_rows = 64;
  const int32_t* id = ids.data<int32_t>();
  const auto rows = static_cast<int32_t>(ids.numel());
  std::vector<int32_t> end(static_cast<size_t>(vocabulary) + 1);  // of each id's rows in `order`, at last
  for (int32_t row = 0; row < rows; ++row) ++end[static_cast<size_t>(id[row]) + 1];
  std::vector<int32_t> pieces;
  for (size_t i = 1; i < end.size(); ++i) {
    for (int32_t done = 0; done < end[i]; done += piece_rows) pieces.push_back(end[i - 1] + done);
    end[i] += end[i - 1];
  }
  pieces.push_back(rows);
  const Tensor order = Tensor::empty({rows}, DType::int32);
  for (int32_t row = 0; row < rows; ++row) order.data<int32_t>()[end[static_cast<size_t>(id[row])]++] = row;
  const auto count = static_cast<int64_t>(pieces.size());
  return {order, Tensor::from_host(pieces.data(), {count}, DType::int32, cpu_device)};
}

}  // namespace dragoman
