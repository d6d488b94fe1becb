// What depends on the distance from query to key: lines of biases, relative tables and their gradients.
#include "cuda/attention/attention.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

// As on the CPU (csrc/cpu/attention/distance.h). The logarithm is taken in double and rounded once, as the
// CPU's is to the last bit but for rare cases.
__device__ int64_t bucket_of(const AttentionShape& s, int64_t distance) {
  const int64_t buckets = s.bidirectional ? s.num_buckets / 2 : s.num_buckets;
  const int64_t first = s.bidirectional && distance > 0 ? buckets : 0;
  const int64_t away = s.bidirectional && distance > 0 ? distance : max(int64_t{0}, -distance);
  const int64_t exact = buckets / 2;
  if (away < exact) return first + away;
  if (away >= s.max_distance) return first + buckets - 1;
  const float ratio = static_cast<float>(away) / static_cast<float>(exact);
  const float part =
      static_cast<float>(log(static_cast<double>(ratio))) /
      static_cast<float>(log(static_cast<double>(s.max_distance) / static_cast<double>(exact)));
  const auto more = static_cast<int64_t>(part * static_cast<float>(buckets - exact));
  return first + min(buckets - 1, exact + more);
}

// One thread for each distance.
__global__ void bias_lines_kernel(AttentionShape s, Distances distances, float* lines, int32_t* bucket) {
  const int64_t i = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (i >= distances.size) return;
  const int64_t distance = distances.lowest + i;
  const bool relative = s.bias_kind == BiasKind::relative;
  const int64_t row = relative ? bucket_of(s, distance) : 0;
  bucket[i] = static_cast<int32_t>(row);
  for (int64_t head = 0; head < s.num_heads; ++head) {
    const float bias = relative ? s.bias[row * s.num_heads + head]
                                : -s.bias[head] * static_cast<float>(distance < 0 ? -distance : distance);
    lines[head * distances.size + i] = bias * log2_e;
  }
}

// The distances of a batch, without memory.
Distances distances_of(const AttentionShape& s) {
  Distances distances;
  if (s.bias_kind == BiasKind::none) return distances;
  distances.lowest =
      1 - (s.query_offset >= 0 ? s.query_offset + s.q_sequences.max_length : s.k_sequences.max_length);
  distances.size = s.q_sequences.max_length + s.k_sequences.max_length;
  return distances;
}

// One thread for each product.
template <class T>
__global__ void multiply_by_table_kernel(AttentionShape s, const T* rows, int64_t stride, const float* table,
                                         float* to) {
  const int64_t width = 2 * s.clip + 1, index = int64_t{blockIdx.x} * block_threads + threadIdx.x;
  const int64_t row = index / width / s.num_heads, head = index / width % s.num_heads;
  if (row >= rows_in_use(s.q_sequences.rows)) return;
  const T* x = rows + row * stride + head * s.head_dim;
  const float* y = table + index % width * s.head_dim;
  float sum = 0.0f;
  for (int64_t d = 0; d < s.head_dim; ++d) sum += to_float(x[d]) * y[d];
  to[index] = sum;
}

constexpr int64_t chunk_rows = 64;

// partial (chunks, 2 * clip + 1, head_dim): a block of threads for each chunk of rows and row of the table.
template <class T>
__global__ void table_gradient_kernel(AttentionShape s, const float* sums, const T* rows, int64_t stride,
                                      float factor, float* partial) {
  const int64_t width = 2 * s.clip + 1, chunk = blockIdx.x / width, r = blockIdx.x % width;
  const int64_t end = min(rows_in_use(s.q_sequences.rows), (chunk + 1) * chunk_rows);
  for (int64_t d = threadIdx.x; d < s.head_dim; d += block_threads) {
    float sum = 0.0f;
    for (int64_t row = chunk * chunk_rows; row < end; ++row) {
      for (int64_t head = 0; head < s.num_heads; ++head) {
        sum += sums[(row * s.num_heads + head) * width + r] *
               to_float(rows[row * stride + head * s.head_dim + d]);
      }
    }
    partial[blockIdx.x * s.head_dim + d] = sum * factor;
  }
}

}  // namespace

DistanceScratch::DistanceScratch(const AttentionShape& s, const void* q)
    : lines(distances_of(s).size * (s.num_heads + 1) * int64_t{sizeof(float)}),
      key_products(s.relative_keys == nullptr ? 0
                                              : s.q_sequences.rows.capacity * s.num_heads * (2 * s.clip + 1) *
                                                    int64_t{sizeof(float)}),
      distances(distances_of(s)) {
  if (distances.size != 0) {
    int32_t* const bucket = lines.as<int32_t>() + s.num_heads * distances.size;
    launch(bias_lines_kernel, grid_of(ceil_div(distances.size, block_threads)), dim3(block_threads), 0, s,
           distances, lines.as<float>(), bucket);
    distances.lines = lines.as<float>();
    distances.bucket = bucket;
  }
  if (s.relative_keys != nullptr) {
    multiply_by_table(s, q, s.q_stride, s.relative_keys, key_products.as<float>());
    distances.key_products = key_products.as<float>();
  }
}

void multiply_by_table(const AttentionShape& s, const void* rows, int64_t stride, const float* table,
                       float* to) {
  const int64_t products = s.q_sequences.rows.bound * s.num_heads * (2 * s.clip + 1);
  with_dtype(s.dtype, [&](auto element) {
    using T = decltype(element);
    launch(multiply_by_table_kernel<T>, grid_of(ceil_div(products, block_threads)), dim3(block_threads), 0, s,
           static_cast<const T*>(rows), stride, table, to);
  });
}

void relative_table_gradient(const AttentionShape& s, const float* sums, const void* rows, int64_t stride,
                             float factor, bool accumulate, float* dtable) {
  const int64_t size = (2 * s.clip + 1) * s.head_dim;
  const int64_t chunks = ceil_div(s.q_sequences.rows.bound, chunk_rows);
  const Scratch partial(chunks * size * int64_t{sizeof(float)});
  with_dtype(s.dtype, [&](auto element) {
    using T = decltype(element);
    launch(table_gradient_kernel<T>, grid_of(chunks * (2 * s.clip + 1)), dim3(block_threads), 0, s, sums,
           static_cast<const T*>(rows), stride, factor, partial.as<float>());
  });
  add_chunks(partial.as<float>(), chunks, size, size, accumulate, dtable);
}

}  // namespace dragoman::cuda
