"""The architectures of others as configs of ours: with the weights of a model of transformers, the same logits."""

import re

import numpy as np
import pytest
from dragoman.models import EncoderConfig, TextEncoder, VisionConfig, VisionTransformer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

NO_DROPOUT = {"dropout": 0.0, "embedding_dropout": 0.0}

# Encoders

BERT_THEIRS = {
    **{"vocab_size": 67, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3},
    **{"intermediate_size": 37, "max_position_embeddings": 33},
}
BERT = {
    **{"vocab_size": 67, "d_model": 24, "num_layers": 2, "num_heads": 3, "d_ff": 37, "max_length": 33},
    **{"positions": "learned", "embedding_norm": True, "scale_embeddings": False, "activation": "gelu"},
    **{"norm_eps": 1e-12},
}
BERT_NAMES = [
    (r"^(bert|roberta|mpnet)\.", ""),
    (r"^embeddings\.word_embeddings", "embedding"),
    (r"^embeddings\.token_type_embeddings\.weight", "embedding.type_weight"),
    (r"^embeddings\.position_embeddings", "positions"),
    (r"^embeddings\.LayerNorm", "embedding.norm"),
    (r"encoder\.layer\.", "encoder.layers."),
    (r"attention\.(self\.query|attn\.q)\b", "self_attention.q_proj"),
    (r"attention\.(self\.key|attn\.k)\b", "self_attention.k_proj"),
    (r"attention\.(self\.value|attn\.v)\b", "self_attention.v_proj"),
    (r"attention\.(output\.dense|attn\.o)\b", "self_attention.out_proj"),
    (r"attention\.(output\.)?LayerNorm", "norm1"),
    (r"intermediate\.dense", "feed_forward.linear1"),
    (r"output\.dense", "feed_forward.linear2"),
    (r"output\.LayerNorm", "norm2"),
    (r"^encoder\.relative_attention_bias", "encoder.layers.0.self_attention.positions"),
    (r"^pooler\.dense", "pooler"),
    (r"^classifier\.dense", "pooler"),
    (r"^classifier(\.out_proj)?\b", "head.output"),
    (r"^(cls\.predictions\.transform|lm_head)\.dense", "head.transform"),
    (r"^(cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm)", "head.norm"),
    (r"^(cls\.predictions|lm_head)\.bias", "head.output.bias"),
]
LABELS = {"head": "classify", "labels": ("a", "b", "c", "d", "e"), "pooling": "first", "pooler": True}
ROBERTA = {**BERT, "norm_eps": 1e-5, "position_offset": 2, "max_length": 31, "token_types": 1}
TEXTS = {
    "bert": (("BertForMaskedLM", "BertConfig"), {"hidden_act": "gelu_new"},
             {**BERT, "head": "mlm", "token_types": 2, "activation": "gelu_tanh", "head_activation": "gelu_tanh"}),
    "bert, labels": (("BertForSequenceClassification", "BertConfig"), {"num_labels": 5},
                     {**BERT, **LABELS, "token_types": 2}),
    "roberta": (("RobertaForMaskedLM", "RobertaConfig"), {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
                {**ROBERTA, "head": "mlm"}),
    "roberta, labels": (("RobertaForSequenceClassification", "RobertaConfig"),
                        {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "num_labels": 5}, {**ROBERTA, **LABELS}),
    "mpnet": (("MPNetForMaskedLM", "MPNetConfig"), {},
              {**BERT, "position_offset": 2, "max_length": 31, "layers": [{"positions": "relative"}], "head": "mlm"}),
}  # fmt: skip


def theirs(names, values, rng):
    """A model of transformers whose weights show every option: far from where training would begin."""
    torch.manual_seed(0)
    model_class, config_class = (getattr(transformers, name) for name in names)
    config = config_class(**values)
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not ("embed_positions" in name and not parameter.requires_grad):
                inputs = parameter.shape[-1] if parameter.ndim > 1 else 20
                scale = 1.2 / inputs**0.5
                scale /= 7**0.5 if name.endswith("Attention.q.weight") else 1  # T5 divides no scores
                parameter.copy_(torch.tensor(rng.normal(0, scale, parameter.shape)) + (parameter if scale < 0.3 else 0))
    return model


def load(model, their_model, names, change=None):
    """Copies their weights into ours, by names; every parameter of ours must be among them."""
    state = {}
    for name, array in their_model.state_dict().items():
        for pattern, other in names:
            name = re.sub(pattern, other, name)
        state[name] = array.detach().numpy()
    if change is not None:
        change(state)
    own = model.state_dict()
    missing = set(own) - set(state)
    assert not missing
    model.load_state_dict({name: state[name].reshape(own[name].shape) for name in own})
    return model.eval()


def assert_same(actual, expected):
    expected = expected.detach().numpy().reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("names", "values", "fields"), TEXTS.values(), ids=TEXTS)
def test_encoders(names, values, fields, rng):
    other = theirs(names, BERT_THEIRS | values, rng)
    model = load(TextEncoder(EncoderConfig(**fields | NO_DROPOUT)), other, BERT_NAMES)
    ids, types = rng.integers(3, 50, (2, 11)), (np.arange(11) > 4).astype(int)[None].repeat(2, 0)
    two = fields.get("token_types") == 2
    more = {"token_type_ids": torch.tensor(types)} if two else {}
    with torch.no_grad():
        expected = other(input_ids=torch.tensor(ids), **more).logits
    assert_same(model.logits(ids.tolist(), types=types.tolist() if two else None), expected)


VIT_NAMES = [
    (r"^vit\.embeddings\.patch_embeddings\.projection", "patches"),
    (r"^vit\.embeddings\.cls_token", "class_token"),
    (r"^vit\.embeddings\.position_embeddings", "positions.weight"),
    (r"^vit\.(encoder\.layer|layers)\.", "encoder.layers."),
    (r"^vit\.layernorm", "encoder.norm"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"attention\.(attention\.query|q_proj)", "self_attention.q_proj"),
    (r"attention\.(attention\.key|k_proj)", "self_attention.k_proj"),
    (r"attention\.(attention\.value|v_proj)", "self_attention.v_proj"),
    (r"attention\.(output\.dense|o_proj)", "self_attention.out_proj"),
    (r"(intermediate\.dense|mlp\.fc1)", "feed_forward.linear1"),
    (r"(output\.dense|mlp\.fc2)", "feed_forward.linear2"),
    (r"^classifier", "head.output"),
]


def test_vision(rng):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37}
    images = {"image_size": 20, "patch_size": 5, "num_labels": 3}
    other = theirs(("ViTForImageClassification", "ViTConfig"), sizes | images, rng)
    fields = {"d_model": 24, "num_layers": 2, "num_heads": 3, "d_ff": 37, "image_size": 20, "patch_size": 5}
    config = VisionConfig(**fields, labels=("a", "b", "c"), norm_eps=1e-12, **NO_DROPOUT)

    def of_vit(state):
        state["patches.weight"] = state["patches.weight"].transpose(0, 2, 3, 1).reshape(24, -1)

    model = load(VisionTransformer(config), other, VIT_NAMES, of_vit)
    pixels = rng.random((2, 20, 20, 3)).astype(np.float32)
    with torch.no_grad():
        expected = other(pixel_values=torch.tensor((pixels * 2 - 1).transpose(0, 3, 1, 2))).logits
    assert_same(model.logits(pixels), expected)
