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
// groups (i * threads + lane) for i = 0 .. groups - 1. A team in_memory takes rows of any width: it has
// registers for one group, and reads the row again.
template <int warps_, int groups_, bool in_memory_ = false>
struct Team {
  static constexpr int warps = warps_, threads = warps * warp_size, kept = groups_;
  static constexpr int per_block = block_warps / warps;
  static constexpr bool in_memory = in_memory_;
  static constexpr int64_t most_features() { return int64_t{kept} * threads * group_size; }

  __device__ static int groups(int64_t features) {
    return in_memory ? static_cast<int>(ceil_div(features, threads * group_size)) : kept;
  }
  __device__ static int place(int group) { return in_memory ? 0 : group; }
};

// Calls body with the smallest team for rows of so many features.
template <class Body>
void with_team(int64_t features, const Body& body) {
  if (features <= Team<1, 1>::most_features()) return body(Team<1, 1>());
  if (features <= Team<1, 2>::most_features()) return body(Team<1, 2>());
  if (features <= Team<1, 4>::most_features()) return body(Team<1, 4>());
  if (features <= Team<8, 2>::most_features()) return body(Team<8, 2>());
  return body(Team<8, 1, true>());
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
  const int groups = Team::groups(norm.features);
  float x[Team::kept][8], total = 0.0f;
#pragma unroll
  for (int i = 0; i < groups; ++i) {
    const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
    const int64_t used = live ? count : 0;
    float (&value)[8] = x[Team::place(i)];
    load8(static_cast<const T*>(add ? p.x : norm.x) + row_begin + at, used, value);
    if (add && count > 0) {
      float residual[8], factor[8];
      load8(static_cast<const T*>(p.residual) + row_begin + at, used, residual);
      keep_factors(dropout, row_begin + at, factor);
#pragma unroll
      for (int j = 0; j < 8; ++j) value[j] = rounded<T>(residual[j] + value[j] * factor[j]);
      store8(static_cast<T*>(p.sum) + row_begin + at, count, value);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) total += value[j];
  }
  const T* again = static_cast<const T*>(add ? p.sum : norm.x) + row_begin;
  const float mean = norm.mean == nullptr ? 0.0f : team_sum<Team::warps>(total, shared) / features;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < groups; ++i) {
    const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
    float (&value)[8] = x[Team::place(i)];
    if constexpr (Team::in_memory) load8(again + at, live ? count : 0, value);
#pragma unroll
    for (int j = 0; j < 8; ++j) squares += j < count ? (value[j] - mean) * (value[j] - mean) : 0.0f;
  }
  const float rstd = 1.0f / sqrtf(team_sum<Team::warps>(squares, shared) / features + norm.eps);
#pragma unroll
  for (int i = 0; i < groups; ++i) {
    const int64_t at = (i * Team::threads + lane) * group_size, count = norm.features - at;
    if (count <= 0) continue;
    float weight[8], bias[8];
    float (&value)[8] = x[Team::place(i)];
    if constexpr (Team::in_memory) load8(again + at, live ? count : 0, value);
    load8(norm.weight + at, count, weight);
    load8(norm.bias + at, norm.bias == nullptr ? 0 : count, bias);
#pragma unroll
    for (int j = 0; j < 8; ++j) value[j] = live ? (value[j] - mean) * rstd * weight[j] + bias[j] : 0.0f;
    store8(static_cast<T*>(norm.y) + row_begin + at, count, value);
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
  const int groups = Team::groups(norm.features);
  float* partial_chunk = partial + int64_t{blockIdx.x} * 2 * norm.features;
  float dweight[Team::kept][8] = {}, dbias[Team::kept][8] = {};
  for (int64_t row = first_row + team; row < end_row; row += Team::per_block) {
    const bool live = row < in_use;
    const int64_t row_begin = row * norm.features;
    const T* x_row = static_cast<const T*>(norm.x) + row_begin;
    const T* dy_row = static_cast<const T*>(norm.dy) + row_begin;
    const float rstd = live ? norm.rstd[row] : 0.0f;
    const float mean = live && norm.mean != nullptr ? norm.mean[row] : 0.0f;
    float g_sum = 0.0f, g_normal_sum = 0.0f;
#pragma unroll
    for (int i = 0; i < groups; ++i) {
      const int64_t at = (i * Team::threads + lane) * group_size, count = live ? norm.features - at : 0;
      float x[8], dy[8], weight[8];
      float (&weight_sum)[8] = dweight[Team::place(i)], (&bias_sum)[8] = dbias[Team::place(i)];
      if constexpr (Team::in_memory) {
        const int64_t added = row > first_row ? norm.features - at : 0;
        load8(partial_chunk + at, added, weight_sum);
        load8(partial_chunk + norm.features + at, added, bias_sum);
      }
      load8(x_row + at, count, x);
      load8(dy_row + at, count, dy);  // 0 beyond the row: nothing is added there
      load8(norm.weight + at, count, weight);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float normal = (x[j] - mean) * rstd, g = dy[j] * weight[j];
        g_sum += g;
        g_normal_sum += g * normal;
        weight_sum[j] += dy[j] * normal;
        bias_sum[j] += dy[j];
      }
      if constexpr (Team::in_memory) {
        store8(partial_chunk + at, norm.features - at, weight_sum);
        store8(partial_chunk + norm.features + at, norm.features - at, bias_sum);
      }
    }
    const float g_normal_mean = team_sum<Team::warps>(g_normal_sum, shared) / features;
    const float g_mean = norm.mean == nullptr ? 0.0f : team_sum<Team::warps>(g_sum, shared) / features;
#pragma unroll
    for (int i = 0; i < groups; ++i) {
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
  if constexpr (Team::in_memory) return;
  // The teams add theirs one after another.
  float* sums = reinterpret_cast<float*>(memory);  // (2, features)
  for (int turn = 0; turn < Team::per_block; ++turn) {
    if (team == turn) {
#pragma unroll
      for (int i = 0; i < groups; ++i) {
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
      using Team = decltype(team);
      const size_t shared = Team::in_memory ? 0 : static_cast<size_t>(columns) * sizeof(float);
      launch(norm_backward_kernel<decltype(element), Team>, grid_of(chunks), block_threads, shared, p,
             partial);
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
