"""The truth for every op in naive NumPy: each `x` with its `x_backward` below it.

Nothing here casts: float64 arguments give the truth, float32 arguments the plain implementation that sets the
error bar. Arguments hold used rows only, and attention takes lengths: no padding or tail exists on this side.
`x_backward(dy, ...)` takes the arguments of `x` and returns a gradient for each differentiable one, in order.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def assert_close(actual, truth, plain32=None, magnitude=0.0):
    """The largest error is at most twice the plain float32 one, plus roundings.

    `magnitude` is the sum of a value's terms without their signs: where they cancel, sums in another order differ by
    roundings of that.
    """
    actual, truth = np.asarray(actual, np.float64), np.asarray(truth, np.float64)
    assert actual.shape == truth.shape, f"shape {actual.shape}, expected {truth.shape}"
    if truth.size == 0:
        return
    largest = np.abs(truth).max()
    plain_error = 1e-5 * largest if plain32 is None else np.abs(np.asarray(plain32, np.float64) - truth).max()
    error = np.abs(actual - truth).max()
    bar = 2 * plain_error + 1e-6 * largest + 2.0**-23 * magnitude + 1e-8
    assert error <= bar, f"error {error:.3g} above {bar:.3g}, the largest value being {largest:.3g}"


# Activations


def activation(x, kind):
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu":
        return (x * (0.5 * (1 + _erf(x / math.sqrt(2))))).astype(x.dtype)
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "silu":
        return x * _sigmoid(x)
    if kind == "tanh":
        return np.tanh(x)
    if kind == "sigmoid":
        return _sigmoid(x)
    return x


def activation_backward(dy, x, kind):
    if kind == "relu":
        return (dy * (x > 0),)
    if kind == "gelu":
        cdf = 0.5 * (1 + _erf(x / math.sqrt(2)))
        density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return ((dy * (cdf + x * density)).astype(x.dtype),)
    if kind == "gelu_tanh":
        scale = math.sqrt(2 / math.pi)
        t = np.tanh(scale * (x + 0.044715 * x**3))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + 3 * 0.044715 * x**2)),)
    if kind == "silu":
        s = _sigmoid(x)
        return (dy * (s + x * s * (1 - s)),)
    if kind == "tanh":
        return (dy * (1 - np.tanh(x) ** 2),)
    if kind == "sigmoid":
        s = _sigmoid(x)
        return (dy * s * (1 - s),)
    return (dy,)


def _sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


# Gate


def gate(a, b, kind, mask=1):
    return activation(a, kind) * b * mask


def gate_backward(dy, a, b, kind, mask=1):
    dy = dy * mask
    return activation_backward(dy * b, a, kind)[0], dy * activation(a, kind)


# Linear


def linear(x, weight, bias=None, kind="none", mask=1):
    pre = x @ weight.T
    return activation(pre if bias is None else pre + bias, kind) * mask


def linear_backward(dy, x, weight, bias=None, kind="none", mask=1):
    (dpre,) = activation_backward(dy * mask, linear(x, weight, bias), kind)
    return dpre @ weight, dpre.T @ x, None if bias is None else dpre.sum(0)


# Layer norm


def layer_norm(x, weight, bias=None, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + x.dtype.type(eps)) * weight
    return y if bias is None else y + bias


def layer_norm_backward(dy, x, weight, bias=None, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + x.dtype.type(eps))
    normed, dnormed = centred * rstd, dy * weight
    dx = rstd * (dnormed - dnormed.mean(-1, keepdims=True) - normed * (dnormed * normed).mean(-1, keepdims=True))
    return dx, (dy * normed).sum(0), None if bias is None else dy.sum(0)


def rms_norm(x, weight, eps=1e-5):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(eps)) * weight


def rms_norm_backward(dy, x, weight, eps=1e-5):
    rstd = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(eps))
    normed, dnormed = x * rstd, dy * weight
    return rstd * (dnormed - normed * (dnormed * normed).mean(-1, keepdims=True)), (dy * normed).sum(0)


# Random bits and dropout


def philox(seed, counter):
    """Philox4x32-10 (Salmon et al. 2011). counter (..., 4) uint32 -> (..., 4) uint32."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (right >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]),
            right & mask,
            (left >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]),
            left & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, -1).astype(np.uint32)


def dropout_multiplier(index, p, seed, step, id):
    """0 for a dropped logical index, 65536 / (65536 - round(65536 p)) for a kept one; float64."""
    threshold = round(p * 65536)
    index = np.asarray(index, np.int64)
    counter = np.empty((*index.shape, 4), np.uint32)
    counter[..., 0] = index // 8
    counter[..., 1] = id
    counter[..., 2] = step & 0xFFFFFFFF
    counter[..., 3] = step >> 32
    lane = index % 8
    word = np.take_along_axis(philox(seed, counter), lane[..., None] // 2, -1)[..., 0]
    draw = (word >> (16 * (lane % 2)).astype(np.uint32)) & 0xFFFF
    return np.where(draw >= threshold, 65536 / (65536 - threshold), 0.0)


def dropout_mask(rows, features, p, seed, step, id):
    """The multipliers of a row-wise dropout, (rows, features)."""
    return dropout_multiplier(np.arange(rows * features).reshape(rows, features), p, seed, step, id)


def attention_dropout_masks(q_lengths, k_lengths, num_heads, k_max_length, p, seed, step, id):
    """The multipliers of attention's weights: for each sequence (num_heads, queries, keys)."""
    stride = (k_max_length + 7) // 8 * 8
    masks, first = [], 0
    for n, m in zip(q_lengths, k_lengths, strict=True):
        head, row, key = np.ogrid[:num_heads, first : first + n, :m]
        masks.append(dropout_multiplier((row * num_heads + head) * stride + key, p, seed, step, id))
        first += n
    return masks


# Attention


def as_it_is(x):
    return x


def attention(
    q, k, v, q_lengths, k_lengths, *, scale=None, masks=None, rounded=as_it_is, relative_keys=None,
    relative_values=None, **options,
):  # fmt: skip
    """Returns out (tokens, num_heads, head_dim) and each sequence's weights before dropout (heads, n, m).

    `rounded` is applied where an implementation in lower precision rounds: to the operands of the products and to out.
    `options` are those of _sequences and _bias, and score_cap.
    """
    out, weights = np.zeros(q.shape, q.dtype), []
    for sequence in _sequences(q_lengths, k_lengths, masks, **_visible(options)):
        q_rows, k_rows, distance, _, mask = sequence
        weight = _weight(q, k, sequence, scale, relative_keys, options)
        weights.append(weight)
        dropped, value = rounded(weight * mask), _heads(v[k_rows], q.shape[1])
        total = np.einsum("hnm,mhd->nhd", dropped, value)
        if relative_values is not None:
            total = total + np.einsum("hnm,nmd->nhd", dropped, _rows_by_distance(relative_values, distance))
        out[q_rows] = rounded(total)
    return out, weights


def attention_backward(
    dout, q, k, v, q_lengths, k_lengths, *, scale=None, masks=None, rounded=as_it_is, relative_bias=None,
    relative_keys=None, relative_values=None, **options,
):  # fmt: skip
    """dq, dk, dv, and the gradients of relative_bias, relative_keys and relative_values, those that are given."""
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    tables = [relative_bias, relative_keys, relative_values]
    dbias, dkeys, dvalues = (None if table is None else np.zeros_like(table) for table in tables)
    options["relative_bias"] = relative_bias
    group = q.shape[1] // k.shape[1]
    for sequence in _sequences(q_lengths, k_lengths, masks, **_visible(options)):
        q_rows, k_rows, distance, _, mask = sequence
        key, value = _heads(k[k_rows], q.shape[1]), _heads(v[k_rows], q.shape[1])
        weight = _weight(q, k, sequence, scale, relative_keys, options)
        dweight, dropped = np.einsum("nhd,mhd->hnm", dout[q_rows], value), rounded(weight * mask)
        total = np.einsum("hnm,mhd->nhd", dropped, value)
        if relative_values is not None:
            by_distance = _rows_by_distance(relative_values, distance)
            dweight = dweight + np.einsum("nhd,nmd->hnm", dout[q_rows], by_distance)
            total = total + np.einsum("hnm,nmd->nhd", dropped, by_distance)
            _add_by_distance(dvalues, distance, np.einsum("hnm,nhd->nmd", dropped, dout[q_rows]))
        delta = np.einsum("nhd,nhd->hn", dout[q_rows], rounded(total))
        dbiased = weight * (dweight * mask - delta[:, :, None])
        if cap := options.get("score_cap"):
            dbiased = dbiased / np.cosh(_scores(q, k, sequence, scale, relative_keys) / q.dtype.type(cap)) ** 2
        dscore = rounded(dbiased * _scale(q, scale))
        dq[q_rows] = np.einsum("hnm,mhd->nhd", dscore, key)
        if relative_keys is not None:
            dq[q_rows] += np.einsum("hnm,nmd->nhd", dscore, _rows_by_distance(relative_keys, distance))
            _add_by_distance(dkeys, distance, np.einsum("hnm,nhd->nmd", dscore, q[q_rows]))
        if relative_bias is not None:
            buckets = _buckets(distance, relative_bias, options)
            np.add.at(dbias, buckets.ravel(), rounded(dbiased).transpose(1, 2, 0).reshape(-1, q.shape[1]))
        for h in range(q.shape[1]):
            dk[k_rows, h // group] += dscore[h].T @ q[q_rows, h]
            dv[k_rows, h // group] += dropped[h].T @ dout[q_rows, h]
    tables = [table for table in (dbias, dkeys, dvalues) if table is not None]
    return rounded(dq), rounded(dk), rounded(dv), *tables


def _visible(options):
    return {name: options[name] for name in ("causal", "window", "query_offset") if name in options}


def _sequences(q_lengths, k_lengths, masks, *, causal=False, window=None, query_offset=None):
    """For each sequence: its query rows, key rows, distances (n, m), who may attend to what (n, m), dropout
    multipliers."""
    q_first = k_first = 0
    for i, (n, m) in enumerate(zip(q_lengths, k_lengths, strict=True)):
        position = np.arange(n)[:, None] + (m - n if query_offset is None else query_offset)
        distance = np.arange(m)[None] - position
        allowed = np.ones((n, m), bool)
        if causal:
            allowed &= distance <= 0
        if window is not None:
            allowed &= abs(distance) <= window
        mask = np.float32(1) if masks is None else masks[i].astype(np.float32)
        yield slice(q_first, q_first + n), slice(k_first, k_first + m), distance, allowed, mask
        q_first, k_first = q_first + n, k_first + m


def _weight(q, k, sequence, scale, relative_keys, options):
    _, _, distance, allowed, _ = sequence
    scores = _scores(q, k, sequence, scale, relative_keys)
    if cap := options.get("score_cap"):
        scores = scores.dtype.type(cap) * np.tanh(scores / scores.dtype.type(cap))
    return _softmax(scores + _bias(distance, q.dtype, options), allowed)


def _scores(q, k, sequence, scale, relative_keys):
    q_rows, k_rows, distance, *_ = sequence
    scores = np.einsum("nhd,mhd->hnm", q[q_rows], _heads(k[k_rows], q.shape[1]))
    if relative_keys is not None:
        scores = scores + np.einsum("nhd,nmd->hnm", q[q_rows], _rows_by_distance(relative_keys, distance))
    return scores * _scale(q, scale)


def _bias(distance, dtype, options):
    """(num_heads, n, m), or 0."""
    if options.get("alibi_slopes") is not None:
        return (-options["alibi_slopes"][:, None, None] * abs(distance)).astype(dtype)
    if options.get("relative_bias") is not None:
        table = options["relative_bias"]
        return table[_buckets(distance, table, options)].transpose(2, 0, 1)
    return dtype.type(0)


def _buckets(distance, table, options):
    bidirectional, furthest = options.get("bidirectional", True), options.get("max_distance", 128)
    return np.array([bucket(d, len(table), bidirectional, furthest) for d in distance.ravel()], int).reshape(
        distance.shape
    )


def bucket(distance, num_buckets, bidirectional, max_distance):
    """Of T5 (Raffel et al. 2020)."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first, distance = (num_buckets if distance > 0 else 0), -abs(distance)
    away, exact = max(-distance, 0), num_buckets // 2
    if away < exact:
        return first + int(away)
    part = math.log(away / exact) / math.log(max_distance / exact)
    return first + min(num_buckets - 1, exact + int(part * (num_buckets - exact) + 1e-6))


def _rows_by_distance(table, distance):
    """(n, m, head_dim)."""
    clip = len(table) // 2
    return table[np.clip(distance, -clip, clip) + clip]


def _add_by_distance(gradient, distance, rows):
    clip = len(gradient) // 2
    np.add.at(gradient, np.clip(distance, -clip, clip) + clip, rows)


# Rotary positions


def rotary(x, angles):
    """x (tokens, num_heads, head_dim), angles (tokens, pairs): of the first 2 * pairs features of a head, i and
    i + pairs are turned together."""
    pairs = angles.shape[1]
    cosine, sine = np.cos(angles)[:, None].astype(x.dtype), np.sin(angles)[:, None].astype(x.dtype)
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], -1)


def rotary_backward(dy, x, angles):
    return (rotary(dy, -angles),)


def _heads(x, num_heads):
    return np.repeat(x, num_heads // x.shape[1], axis=1)


def _scale(q, scale):
    return q.dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def _softmax(scores, allowed):
    """Rows that may attend to nothing give zeros."""
    scores = np.where(allowed, scores, -np.inf)
    largest = scores.max(-1, keepdims=True, initial=-np.inf)
    powers = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    total = powers.sum(-1, keepdims=True)
    return (powers / np.where(total > 0, total, 1)).astype(scores.dtype)


# Embedding


def embedding(weight, positions, ids, place, scale=1.0):
    """y[t] = weight[ids[t]] * scale + positions[place[t]]."""
    y = weight[ids] * weight.dtype.type(scale)
    return y if positions is None else y + positions[place]


def embedding_backward(dy, weight, positions, ids, place, scale=1.0):
    dweight = np.zeros_like(weight)
    np.add.at(dweight, ids, dy * dy.dtype.type(scale))
    if positions is None:
        return dweight, None
    dpositions = np.zeros_like(positions)
    np.add.at(dpositions, place, dy)
    return dweight, dpositions


def sinusoidal_positions(count, d_model):
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of it (Vaswani et al. 2017)."""
    table = np.zeros((count, d_model))
    for pos in range(count):
        for column in range(d_model):
            angle = pos / 10000 ** (2 * (column // 2) / d_model)
            table[pos, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


# Cross entropy


def cross_entropy(logits, ids, smoothing=0.0, num_targets=None):
    """Mean over the targets (ids >= 0) of -sum(target distribution * log softmax)."""
    used, target = _targets(logits, ids, smoothing)
    shifted = logits[used] - logits[used].max(-1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -(target * log_softmax).sum() / _count(used, num_targets, logits)


def cross_entropy_backward(dloss, logits, ids, smoothing=0.0, num_targets=None):
    used, target = _targets(logits, ids, smoothing)
    powers = np.exp(logits[used] - logits[used].max(-1, keepdims=True))
    dlogits = np.zeros_like(logits)
    dlogits[used] = powers / powers.sum(-1, keepdims=True) - target
    return (dlogits * (dloss / _count(used, num_targets, logits)),)


def _targets(logits, ids, smoothing):
    used = np.asarray(ids) >= 0
    vocabulary = logits.shape[1]
    hit = np.asarray(ids)[used][:, None] == np.arange(vocabulary)
    return used, ((1 - smoothing) * hit + smoothing / vocabulary).astype(logits.dtype)


def _count(used, num_targets, logits):
    return logits.dtype.type(max(used.sum(), 1) if num_targets is None else num_targets)


# Optimizer


def adamw(parameters, gradients, mean, variance, *, lr, betas, eps, weight_decay, step):
    """Returns the new parameters, mean and variance (Loshchilov & Hutter 2019, algorithm 2)."""
    mean = betas[0] * mean + (1 - betas[0]) * gradients
    variance = betas[1] * variance + (1 - betas[1]) * gradients**2
    update = (mean / (1 - betas[0] ** step)) / (np.sqrt(variance / (1 - betas[1] ** step)) + eps)
    return parameters - lr * (update + weight_decay * parameters), mean, variance


def gradient_norm(gradients):
    return np.sqrt(np.sum(np.asarray(gradients, np.float64) ** 2))
