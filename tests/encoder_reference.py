"""Encoders in float64 NumPy, from the papers, with the weights of a state dict."""

import numpy as np
import reference


class EncoderReference:
    """A model's encoder, head and loss; `state` may be changed, for finite differences."""

    def __init__(self, model):
        self.config = model.config
        self.state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}

    def linear(self, x, name):
        return reference.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, x, name):
        return reference.layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], self.config.norm_eps)

    def attention(self, x, name):
        heads = self.config.num_heads
        q, k, v = (self.linear(x, f"{name}.{kind}_proj").reshape(len(x), heads, -1) for kind in "qkv")
        out, _ = reference.attention(q, k, v, [len(x)], [len(x)])
        return self.linear(out.reshape(x.shape), f"{name}.out_proj")

    def feed_forward(self, x, name):
        hidden = reference.activation(self.linear(x, f"{name}.linear1"), self.config.activation)
        return self.linear(hidden, f"{name}.linear2")

    def layers(self, x):
        for i in range(self.config.num_layers):
            name = f"encoder.layers.{i}"
            for norm, part in (("norm1", self.attention), ("norm2", self.feed_forward)):
                place = f"{name}.{'self_attention' if part == self.attention else 'feed_forward'}"
                if self.config.norm_first:
                    x = x + part(self.norm(x, f"{name}.{norm}"), place)
                else:
                    x = self.norm(x + part(x, place), f"{name}.{norm}")
        return self.norm(x, "encoder.norm") if self.config.ends_in_norm else x

    def text(self, ids):
        """The rows of one text, its types those of `types_of`."""
        x = self.state["embedding.weight"][ids] * (self.config.d_model**0.5 if self.config.scale_embeddings else 1.0)
        if self.config.positions == "learned":
            x = x + self.state["positions.weight"][: len(ids)]
        else:
            x = x + reference.sinusoidal_positions(len(ids), self.config.d_model)
        if self.config.token_types is not None:
            x = x + self.state["embedding.type_weight"][types_of(ids, self.config)]
        return self.layers(self.norm(x, "embedding.norm") if self.config.embedding_norm else x)

    def image(self, image):
        """The rows of one image of uint8."""
        size, count = self.config.patch_size, self.config.image_size // self.config.patch_size
        pixels = (image.astype(np.float64) / 255 - self.config.mean) / self.config.std
        corners = [(size * row, size * column) for row in range(count) for column in range(count)]
        patches = np.array([pixels[y : y + size, x : x + size].ravel() for y, x in corners])
        x = self.linear(patches, "patches")
        if self.config.pooling == "class":
            first = [self.state[f"{name}_token"] for name in ("class", "distillation") if f"{name}_token" in self.state]
            x = np.concatenate([*first, x])
        return self.layers(x + self.state["positions.weight"])

    def labels(self, rows):
        if getattr(self.config, "pooler", False):
            rows = reference.activation(self.linear(rows, "pooler"), self.config.head_activation or "tanh")
        return self.linear(rows, "head.output")

    def masked(self, rows):
        hidden = reference.activation(self.linear(rows, "head.transform"), self.config.head_activation or "gelu")
        hidden = self.norm(hidden, "head.norm")
        weight = self.state.get("head.output.weight", self.state["embedding.weight"])
        return reference.linear(hidden, weight, self.state["head.output.bias"])


def types_of(ids, config):
    """Two tokens of a type, then two of the next."""
    return [place // 2 % config.token_types for place in range(len(ids))]


def pooled(rows, kind):
    if kind in ("first", "last"):
        return rows[0 if kind == "first" else -1]
    if kind == "mean_sqrt":
        return rows.sum(0) / len(rows) ** 0.5
    if kind == "weighted_mean":
        return np.average(rows, axis=0, weights=np.arange(len(rows)) + 1)
    return rows.mean(0) if kind == "mean" else rows.max(0)
