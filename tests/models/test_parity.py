"""The whole Transformer against torch.nn.Transformer in float64: same weights, logits, loss and every gradient."""

import dragoman as dg
import numpy as np
import pytest
import reference

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:enable_nested_tensor")]

SOURCES = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], list(range(4, 39))]
TARGETS = [[9, 8, 7], [6, 5, 4, 10, 11, 12, 13, 14], [15], list(range(40, 4, -1))]


class TorchTwin(torch.nn.Module):
    """Embeddings, positions, torch.nn.Transformer and output projection over padded batches."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.src_embedding = torch.nn.Embedding(config.vocab_size, config.d_model)
        self.tgt_embedding = torch.nn.Embedding(config.output_size, config.d_model)
        self.output = torch.nn.Linear(config.d_model, config.output_size, bias=config.output_bias)
        if config.tie_embeddings == "three":
            self.output.weight = self.tgt_embedding.weight = self.src_embedding.weight
        self.transformer = torch.nn.Transformer(
            config.d_model,
            config.num_heads,
            config.num_encoder_layers,
            config.num_decoder_layers,
            config.d_ff,
            dropout=0.0,
            activation=config.activation,
            norm_first=config.norm_first,
            batch_first=True,
        )

    def forward(self, src_batch, tgt_batch):
        """Logits of the rows in use, (target tokens, vocabulary)."""
        src, src_padding = pad(src_batch)
        tgt, tgt_padding = pad(tgt_batch)
        hidden = self.transformer(
            self.embed(self.src_embedding, src),
            self.embed(self.tgt_embedding, tgt),
            tgt_mask=torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1),
            src_key_padding_mask=src_padding,
            tgt_key_padding_mask=tgt_padding,
            memory_key_padding_mask=src_padding,
        )
        return self.output(hidden[~tgt_padding])

    def embed(self, table, ids):
        positions = reference.sinusoidal_positions(ids.shape[1], self.config.d_model)
        return table(ids) * self.config.d_model**0.5 + torch.from_numpy(positions).float().to(table.weight.dtype)


def pad(batch):
    """Rectangular ids and a mask that is True at padding."""
    width = max(map(len, batch))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
    return ids, torch.arange(width)[None] >= torch.tensor([len(row) for row in batch])[:, None]


def as_torch(model, state):
    """`state`, which has our names, with the names of the twin."""
    stacks = dg.interop.to_torch_state_dict(model)
    outside = {name: a for name, a in state.items() if not name.startswith(("encoder.", "decoder."))}
    return {f"transformer.{name}": a for name, a in stacks.items()} | outside


def from_torch(model, tensors):
    """`tensors`, which have the names of the twin, with our names."""
    inside = {name.removeprefix("transformer."): t for name, t in tensors.items() if name.startswith("transformer.")}
    ours = {name: t.numpy() for name, t in tensors.items() if not name.startswith("transformer.")}
    return ours | dg.interop.from_torch_state_dict(inside, model.config)


def assert_parity(ours, theirs):
    """max|a - b| <= 1e-5 max(max|b|, 1e-3 of the largest b of all).

    A constant added to every score changes no softmax: a key bias has zero true gradient, and either side holds
    rounding noise alone. It is measured by its weight's gradient.
    """
    largest = max(np.abs(b).max() for b in theirs.values())
    for name, b in theirs.items():
        measure = theirs[name.replace("k_proj.bias", "k_proj.weight")]
        assert np.abs(ours[name] - b).max() <= 1e-5 * max(np.abs(measure).max(), 1e-3 * largest), name


@pytest.mark.parametrize("tie_embeddings", ["none", "three"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])
def test_transformer_equals_torch(norm_first, activation, tie_embeddings):
    config = dg.TransformerConfig(
        vocab_size=51,
        d_model=32,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=3,
        d_ff=72,
        norm_first=norm_first,
        final_norm=True,
        activation=activation,
        tie_embeddings=tie_embeddings,
        output_bias=tie_embeddings == "none",
        dropout=0.0,
        embedding_dropout=0.0,
    )
    model = dg.Transformer(config)
    rng = np.random.default_rng(3)
    model.load_state_dict(  # biases and norms too, which begin as zeros and ones
        {name: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32) for name, a in model.state_dict().items()}
    )
    twin = TorchTwin(config).double()  # in float32 its own rounding is near the bar
    state = {name: torch.from_numpy(a) for name, a in as_torch(model, model.state_dict()).items()}
    assert not twin.load_state_dict(state, strict=False).unexpected_keys
    assert model.num_parameters() == sum(p.numel() for p in twin.parameters())

    fed = [[config.bos_id, *ids] for ids in TARGETS]
    predicted = [token for ids in TARGETS for token in (*ids, config.eos_id)]
    logits = twin(SOURCES, fed)
    assert_parity({"logits": model.logits(SOURCES, fed)}, {"logits": logits.detach().numpy()})

    theirs = torch.nn.functional.cross_entropy(logits, torch.tensor(predicted), label_smoothing=0.1)
    theirs.backward()
    loss = model.loss(SOURCES, TARGETS, label_smoothing=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    gradients = from_torch(model, {name: p.grad for name, p in twin.named_parameters()})
    assert_parity({name: parameter.grad.numpy() for name, parameter in model.named_parameters()}, gradients)
