#include "ops/norm.h"

#include "cpu/kernels.h"
#include "cpu/sum_rows.h"

namespace dragoman::cpu::DRAGOMAN_ISA {

// Rows whose parameter gradients are added up in one go; the chunks are then added in order.
constexpr int64_t chunk_rows = 64;

// Three passes over a row, which stays in the first cache: mean (0 in rms_norm), variance, output.
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

void layer_norm_forward(const LayerNormForward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(in_use, row_grain(p.features), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) normalize_row<T>(p, row);
    });
    zero(static_cast<T*>(p.y) + in_use * p.features, (p.rows - in_use) * p.features);
  });
  if (p.mean != nullptr) zero(p.mean + in_use, p.rows - in_use);
  zero(p.rstd + in_use, p.rows - in_use);
}

// dx = rstd * (g - mean(g) - normal * mean(g * normal)) with g = dy * weight and normal = (x - mean) * rstd;
// in rms_norm without both means.
template <class T>
static void backward_row(const LayerNormBackward& p, int64_t row, float* dweight, float* dbias) {
  const T* x_row = static_cast<const T*>(p.x) + row * p.features;
  const T* dy_row = static_cast<const T*>(p.dy) + row * p.features;
  T* dx_row = static_cast<T*>(p.dx) + row * p.features;
  const float rstd = p.rstd[row], count = static_cast<float>(p.features);
  float mean = 0.0f, g_mean = 0.0f;
  if (p.mean != nullptr) {
    mean = p.mean[row];
    g_mean = sum_of(p.features,
                    [&](int64_t i, auto part) { return load(dy_row + i, part) * load(p.weight + i, part); }) /
             count;
  }
  const float g_normal_mean = sum_of(p.features,
                                     [&](int64_t i, auto part) {
                                       const Vec normal = (load(x_row + i, part) - mean) * rstd;
                                       return load(dy_row + i, part) * load(p.weight + i, part) * normal;
                                     }) /
                              count;
  each_vector(p.features, [&](int64_t i, auto part) {
    const Vec dy = load(dy_row + i, part);
    const Vec normal = (load(x_row + i, part) - mean) * rstd;
    store(dx_row + i, (dy * load(p.weight + i, part) - g_mean - normal * g_normal_mean) * rstd, part);
    store(dweight + i, load(dweight + i, part) + dy * normal, part);
    store(dbias + i, load(dbias + i, part) + dy, part);
  });
}

template <class T>
static void backward(const LayerNormBackward& p) {
  const int64_t in_use = rows_in_use(p.tokens, p.rows);
  const int64_t chunks = (in_use + chunk_rows - 1) / chunk_rows;
  const Scratch scratch(chunks * 2 * p.features * static_cast<int64_t>(sizeof(float)));
  float* partial = static_cast<float*>(scratch.data);  // (chunks, 2, features): dweight, dbias
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    float* dweight = partial + chunk * 2 * p.features;
    zero(dweight, 2 * p.features);
    const int64_t end = min_of(in_use, (chunk + 1) * chunk_rows);
    for (int64_t row = chunk * chunk_rows; row < end; ++row)
      backward_row<T>(p, row, dweight, dweight + p.features);
  });
  const int64_t stride = 2 * p.features;
  if (p.dweight != nullptr) {
    add_chunks(partial, chunks, stride, p.features, p.accumulate_weight, p.dweight);
  }
  if (p.dbias != nullptr) {
    add_chunks(partial + p.features, chunks, stride, p.features, p.accumulate_bias, p.dbias);
  }
  zero(static_cast<T*>(p.dx) + in_use * p.features, (p.rows - in_use) * p.features);
}

void layer_norm_backward(const LayerNormBackward& p) {
  with_dtype(p.dtype, [&](auto element) { backward<decltype(element)>(p); });
}

}  // namespace dragoman::cpu::DRAGOMAN_ISA
