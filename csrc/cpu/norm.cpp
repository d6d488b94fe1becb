#include "ops/norm.h"

#include "cpu/dropout_mask.h"
#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Rows of a chunk. Parameter gradients are added up within chunks; the chunks are then added in order.
constexpr int64_t chunk_rows = 64;

// Three passes over a row, which stays in L1: mean (0 in rms_norm), variance, output.
template <class T>
static void normalize_row(const LayerNormForward& p, int64_t row) {
  const T* x_row = static_cast<const T*>(p.x) + row * p.features;
  T* y_row = static_cast<T*>(p.y) + row * p.features;
  const float count = static_cast<float>(p.features);
  float mean = 0.0f;
  if (p.mean != nullptr) {
    mean = sum_of(p.features, [&](int64_t i, auto part) { return load(x_row + i, part); }) / count;
    p.mean[row] = mean;
  }
  const float squares = sum_of(p.features, [&](int64_t i, auto part) {
    const Vec centred = load(x_row + i, part) - mean;
    return centred * centred;
  });
  const float rstd = 1.0f / __builtin_sqrtf(squares / count + p.eps);
  each_vector(p.features, [&](int64_t i, auto part) {
    Vec y = (load(x_row + i, part) - mean) * rstd * load(p.weight + i, part);
    if (p.bias != nullptr) y += load(p.bias + i, part);
    store(y_row + i, y, part);
  });
  p.rstd[row] = rstd;
}

// `make_row` may write a row of x before the row is normalised.
template <class T, class MakeRow>
static void forward(const LayerNormForward& p, const MakeRow& make_row) {
  const int64_t in_use = rows_in_use(p.rows);
  parallel_for(in_use, row_grain(p.features), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      make_row(row);
      normalize_row<T>(p, row);
    }
  });
  zero(static_cast<T*>(p.y) + in_use * p.features, (p.rows.capacity - in_use) * p.features);
  if (p.mean != nullptr) zero(p.mean + in_use, p.rows.capacity - in_use);
  zero(p.rstd + in_use, p.rows.capacity - in_use);
}

void layer_norm_forward(const LayerNormForward& p) {
  with_dtype(p.dtype, [&](auto element) { forward<decltype(element)>(p, [](int64_t) {}); });
}

void residual_norm_forward(const ResidualNormForward& p) {
  with_dtype(p.norm.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t features = p.norm.features, in_use = rows_in_use(p.norm.rows);
    const T* x = static_cast<const T*>(p.x);
    const T* residual = static_cast<const T*>(p.residual);
    T* sum = static_cast<T*>(p.sum);
    forward<T>(p.norm, [&](int64_t row) {
      each_masked_vector(p.dropout, row * features, (row + 1) * features,
                         [&](int64_t i, Vec factor, auto part) {
                           store(sum + i, load(residual + i, part) + load(x + i, part) * factor, part);
                         });
    });
    zero(sum + in_use * features, (p.norm.rows.capacity - in_use) * features);
  });
}

// dx = rstd * (g - mean(g) - normal * mean(g * normal)) with g = dy * weight and normal = (x - mean) * rstd;
// in rms_norm without both means. write_row(row, gradient) calls gradient(i, part), which is dx from element
// i on, once for every vector of the row.
template <class T, class WriteRow>
static void backward_row(const LayerNormBackward& p, int64_t row, float* dweight, float* dbias,
                         const WriteRow& write_row) {
  const T* x_row = static_cast<const T*>(p.x) + row * p.features;
  const T* dy_row = static_cast<const T*>(p.dy) + row * p.features;
  const float rstd = p.rstd[row], count = static_cast<float>(p.features);
  const float mean = p.mean == nullptr ? 0.0f : p.mean[row];
  Vec g_sum{};  // lanes that are off add 0
  const float g_normal_sum = sum_of(p.features, [&](int64_t i, auto part) {
    const Vec g = load(dy_row + i, part) * load(p.weight + i, part);
    g_sum += g;
    return g * ((load(x_row + i, part) - mean) * rstd);
  });
  const float g_mean = p.mean == nullptr ? 0.0f : sum_lanes(g_sum) / count;
  const float g_normal_mean = g_normal_sum / count;
  write_row(row, [&](int64_t i, auto part) {
    const Vec dy = load(dy_row + i, part);
    const Vec normal = (load(x_row + i, part) - mean) * rstd;
    store(dweight + i, load(dweight + i, part) + dy * normal, part);
    store(dbias + i, load(dbias + i, part) + dy, part);
    return (dy * load(p.weight + i, part) - g_mean - normal * g_normal_mean) * rstd;
  });
}

template <class T, class WriteRow>
static void backward(const LayerNormBackward& p, const WriteRow& write_row) {
  const int64_t in_use = rows_in_use(p.rows);
  const int64_t chunks = (in_use + chunk_rows - 1) / chunk_rows;
  const Scratch scratch(chunks * 2 * p.features * static_cast<int64_t>(sizeof(float)));
  float* partial = static_cast<float*>(scratch.data);  // (chunks, 2, features): dweight, dbias
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    float* dweight = partial + chunk * 2 * p.features;
    zero(dweight, 2 * p.features);
    const int64_t end = min_of(in_use, (chunk + 1) * chunk_rows);
    for (int64_t row = chunk * chunk_rows; row < end; ++row)
      backward_row<T>(p, row, dweight, dweight + p.features, write_row);
  });
  const int64_t stride = 2 * p.features;
  if (p.dweight != nullptr) {
    add_chunks(partial, chunks, stride, p.features, p.accumulate_weight, p.dweight);
  }
  if (p.dbias != nullptr) {
    add_chunks(partial + p.features, chunks, stride, p.features, p.accumulate_bias, p.dbias);
  }
  zero(static_cast<T*>(p.dx) + in_use * p.features, (p.rows.capacity - in_use) * p.features);
}

void layer_norm_backward(const LayerNormBackward& p) {
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    backward<T>(p, [&](int64_t row, const auto& gradient) {
      T* dx_row = static_cast<T*>(p.dx) + row * p.features;
      each_vector(p.features, [&](int64_t i, auto part) { store(dx_row + i, gradient(i, part), part); });
    });
  });
}

void residual_norm_backward(const ResidualNormBackward& p) {
  with_dtype(p.norm.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t features = p.norm.features, in_use = rows_in_use(p.norm.rows);
    T* dx = static_cast<T*>(p.dx);
    T* dresidual = static_cast<T*>(p.norm.dx);
    backward<T>(p.norm, [&](int64_t row, const auto& gradient) {
      const int64_t begin = row * features;
      each_masked_vector(p.dropout, begin, begin + features, [&](int64_t i, Vec factor, auto part) {
        const Vec dsum = gradient(i - begin, part);
        store(dresidual + i, dsum, part);
        store(dx + i, dsum * factor, part);
      });
    });
    zero(dx + in_use * features, (p.norm.rows.capacity - in_use) * features);
  });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
