#include "ops/norm.h"

#include "cuda/device.h"
#include "cuda/dropout_mask.h"
#include "cuda/kernels.h"
#include "cuda/sum_rows.h"

namespace dragoman::cuda {

namespace {

// Rows of a block of norm_backward. Parameter gradients are added up within such chunks; the chunks are then
// added in order.
constexpr int64_t chunk_rows = 32;

// A row is the work of a team: one warp, or a whole block where it is wide. Thread `lane` of a team handles
// groups (i * threads + lane) for i = 0 .. groups - 1.
template <int warps_, int groups_>
struct Team {
  static constexpr int warps = warps_, groups = groups_, threads = warps * warp_size;
  static constexpr int per_block = block_warps / warps;
  static constexpr int64_t most_features = int64_t{groups} * threads * group_size;
};

// Calls body with the smallest team for rows of so many features.
template <class Body>
void with_team(int64_t features, const Body& body) {
  if (features <= Team<1, 1>::most_features) return body(Team<1, 1>());
  if (features <= Team<1, 2>::most_features) return body(Team<1, 2>());
  if (features <= Team<1, 4>::most_features) return body(Team<1, 4>());
  if (features <= Team<8, 2>::most_features) return body(Team<8, 2>());
  if (features > Team<8, 8>::most_features) unsupported("norms of more than 16384 features");
  return body(Team<8, 8>());
}

// The row is in registers: mean and variance in two passes over them. residual_norm first makes x, the sum.
template <class T, class Team>
__global__ void __launch_bounds__(block_threads, 1) norm_forward_kernel(ResidualNormForward p) {
  __shared__ float shared[32];
  const LayerNormForward& norm = p.norm;
  const Dropout dropout = at_its_step(p.dropout);
  const int lane = threadIdx.x % Team::threads;
  const int64_t row = int64_t{blockIdx.x} * Team::per_block + threadIdx.x / Team::threads;
  if (row >= norm.rows.capacity) return;
  const bool live = row < rows_in_use(norm.rows), add = p.sum != nullptr;
  const int64_t row_begin = row * norm.features;
  const float features = static_cast<float>(norm.features);
  float x[Team::groups][8], total = 0.0f;
#pragma unroll
  for (int i = 0; i < Team::groups; ++i) {
    const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
    const int64_t used = live ? count : 0;
    load8(static_cast<const T*>(add ? p.x : norm.x) + row_begin + at, used, x[i]);
    if (add && count > 0) {
      float residual[8], factor[8];
      load8(static_cast<const T*>(p.residual) + row_begin + at, used, residual);
      keep_factors(dropout, row_begin + at, factor);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[i][j] = rounded<T>(residual[j] + x[i][j] * factor[j]);
      store8(static_cast<T*>(p.sum) + row_begin + at, count, x[i]);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) total += x[i][j];
  }
  const float mean = norm.mean == nullptr ? 0.0f : team_sum<Team::warps>(total, shared) / features;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < Team::groups; ++i) {
    const int64_t count = norm.features - (i * Team::threads + lane) * group_size;
#pragma unroll
    for (int j = 0; j < 8; ++j) squares += j < count ? (x[i][j] - mean) * (x[i][j] - mean) : 0.0f;
  }
  const float rstd = 1.0f / sqrtf(team_sum<Team::warps>(squares, shared) / features + norm.eps);
#pragma unroll
  for (int i = 0; i < Team::groups; ++i) {
    const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
    if (count <= 0) continue;
    float weight[8], bias[8];
    load8(norm.weight + at, count, weight);
    load8(norm.bias + at, norm.bias == nullptr ? 0 : count, bias);
#pragma unroll
    for (int j = 0; j < 8; ++j) x[i][j] = live ? (x[i][j] - mean) * rstd * weight[j] + bias[j] : 0.0f;
    store8(static_cast<T*>(norm.y) + row_begin + at, count, x[i]);
  }
  if (lane == 0) {
    if (norm.mean != nullptr) norm.mean[row] = live ? mean : 0.0f;
    norm.rstd[row] = live ? rstd : 0.0f;
  }
}

// dx = rstd * (g - mean(g) - normal * mean(g * normal)) with g = dy * weight and normal = (x - mean) * rstd;
// in rms_norm without both means. A row is read twice, the second time from the cache.
//   partial (chunks, 2, features): dweight and dbias of the rows of each chunk
template <class T, class Team>
__global__ void __launch_bounds__(block_threads, 1)
    norm_backward_kernel(ResidualNormBackward p, float* partial) {
  DYNAMIC_SHARED(memory);
  __shared__ float shared[32];
  const LayerNormBackward& norm = p.norm;
  const Dropout dropout = at_its_step(p.dropout);
  const int lane = threadIdx.x % Team::threads, team = threadIdx.x / Team::threads;
  const float features = static_cast<float>(norm.features);
  const int64_t in_use = rows_in_use(norm.rows), first_row = int64_t{blockIdx.x} * chunk_rows;
  const int64_t end_row = min(norm.rows.capacity, first_row + chunk_rows);
  float dweight[Team::groups][8] = {}, dbias[Team::groups][8] = {};
  for (int64_t row = first_row + team; row < end_row; row += Team::per_block) {
    const bool live = row < in_use;
    const int64_t row_begin = row * norm.features;
    const T* x_row = static_cast<const T*>(norm.x) + row_begin;
    const T* dy_row = static_cast<const T*>(norm.dy) + row_begin;
    const float rstd = live ? norm.rstd[row] : 0.0f;
    const float mean = live && norm.mean != nullptr ? norm.mean[row] : 0.0f;
    float g_sum = 0.0f, g_normal_sum = 0.0f;
#pragma unroll
    for (int i = 0; i < Team::groups; ++i) {
      const int64_t at = (i * Team::threads + lane) * group_size, count = live ? norm.features - at : 0;
      float x[8], dy[8], weight[8];
      load8(x_row + at, count, x);
      load8(dy_row + at, count, dy);  // 0 beyond the row: nothing is added there
      load8(norm.weight + at, count, weight);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float normal = (x[j] - mean) * rstd, g = dy[j] * weight[j];
        g_sum += g;
        g_normal_sum += g * normal;
        dweight[i][j] += dy[j] * normal;
        dbias[i][j] += dy[j];
      }
    }
    const float g_normal_mean = team_sum<Team::warps>(g_normal_sum, shared) / features;
    const float g_mean = norm.mean == nullptr ? 0.0f : team_sum<Team::warps>(g_sum, shared) / features;
#pragma unroll
    for (int i = 0; i < Team::groups; ++i) {
      const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
      if (count <= 0) continue;
      float x[8], dy[8], weight[8];
      load8(x_row + at, live ? count : 0, x);
      load8(dy_row + at, live ? count : 0, dy);
      load8(norm.weight + at, count, weight);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        x[j] = (dy[j] * weight[j] - g_mean - (x[j] - mean) * rstd * g_normal_mean) * rstd;
      }
      store8(static_cast<T*>(norm.dx) + row_begin + at, count, x);
      if (p.dx == nullptr) continue;
      keep_factors(dropout, row_begin + at, dy);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j] *= dy[j];
      store8(static_cast<T*>(p.dx) + row_begin + at, count, x);
    }
  }
  // The teams add theirs one after another.
  float* sums = reinterpret_cast<float*>(memory);  // (2, features)
  for (int turn = 0; turn < Team::per_block; ++turn) {
    if (team == turn) {
#pragma unroll
      for (int i = 0; i < Team::groups; ++i) {
        const int64_t at = (i * Team::threads + lane) * group_size;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          if (at + j >= norm.features) continue;
          float* weight_sum = sums + at + j;
          float* bias_sum = weight_sum + norm.features;
          *weight_sum = turn == 0 ? dweight[i][j] : *weight_sum + dweight[i][j];
          *bias_sum = turn == 0 ? dbias[i][j] : *bias_sum + dbias[i][j];
        }
      }
    }
    __syncthreads();
  }
  float* partial_chunk = partial + int64_t{blockIdx.x} * 2 * norm.features;
  for (int64_t i = threadIdx.x; i < 2 * norm.features; i += block_threads) partial_chunk[i] = sums[i];
}

}  // namespace

void residual_norm_forward(const ResidualNormForward& p) {
  const LayerNormForward& norm = p.norm;
  with_dtype(norm.dtype, [&](auto element) {
    with_team(norm.features, [&](auto team) {
      using Team = decltype(team);
      launch(norm_forward_kernel<decltype(element), Team>,
             grid_of(ceil_div(norm.rows.capacity, Team::per_block)), block_threads, 0, p);
    });
  });
}

void residual_norm_backward(const ResidualNormBackward& p) {
  const LayerNormBackward& norm = p.norm;
  const int64_t chunks = ceil_div(norm.rows.capacity, chunk_rows), columns = 2 * norm.features;
  const Scratch scratch(chunks * columns * static_cast<int64_t>(sizeof(float)));
  float* partial = scratch.as<float>();
  with_dtype(norm.dtype, [&](auto element) {
    with_team(norm.features, [&](auto team) {
      launch(norm_backward_kernel<decltype(element), decltype(team)>, grid_of(chunks), block_threads,
             static_cast<size_t>(columns) * sizeof(float), p, partial);
    });
  });
  if (norm.dweight != nullptr) {
    add_chunks(partial, chunks, columns, norm.features, norm.accumulate_weight, norm.dweight);
  }
  if (norm.dbias != nullptr) {
    add_chunks(partial + norm.features, chunks, columns, norm.features, norm.accumulate_bias, norm.dbias);
  }
}

void layer_norm_forward(const LayerNormForward& p) {
  residual_norm_forward({.x = nullptr, .residual = nullptr, .sum = nullptr, .dropout = {}, .norm = p});
}

void layer_norm_backward(const LayerNormBackward& p) {
  residual_norm_backward({.dx = nullptr, .dropout = {}, .norm = p});
}

}  // namespace dragoman::cuda
