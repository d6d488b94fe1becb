"""The kinds of files that `damage.py` damages: how whole ones are made, what is changed, and how they are opened."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import dragoman as dg
import numpy as np
from damage import damaged_bytes, damaged_json, damaged_json_file, damaged_safetensors, dumps
from dragoman import lora
from dragoman.cli import config_file
from dragoman.cli import train as train_command
from dragoman.cli.parser import Parser
from dragoman.data import Shards
from dragoman.data.shards import write_shards
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import SPECIALS
from dragoman.files import BLANK, DIGEST
from dragoman.optim import AdamW
from dragoman.train.averaging import average_checkpoints
from dragoman.train.checkpoint import load_checkpoint
from safetensors.numpy import load_file, save_file

CONFIG = {
    "vocab_size": 11, "d_model": 8, "num_heads": 2, "d_ff": 6, "num_encoder_layers": 1, "num_decoder_layers": 1,
}  # fmt: skip
PAIRS = [([5, 6, 2], [6, 5]), ([7, 2], [7]), ([8, 9, 2], [9])]
TEXTS = ["", " ", "a man  in a blue shirt", "Größe 東京 \U0001f642", "\ufb01 \0 \x7f", "x" * 500, "<s> </s> <0x41>"]

# Of two rules: A becomes a, and the ligature fi becomes two letters. Written by SentencePiece.
CHARACTER_MAP = (Path(__file__).parent / "character_map.txt").read_text().strip()


class Kind:
    """Attributes:
    names: one of them must stand in an error.
    allowed: other errors that may come."""

    names: tuple[str, ...] = ()
    allowed: tuple[type[BaseException], ...] = ()

    def __init__(self, folder: Path) -> None:
        dg.set_num_threads(1)
        self.folder = folder
        self.whole: list[dict[str, bytes]] = []  # variants: content by name of file
        self.make()
        self.put(self.whole[0])

    def put(self, files: dict[str, bytes]) -> None:
        """Writes one variant."""
        for name, content in files.items():
            (self.folder / name).write_bytes(content)

    def take(self) -> dict[str, bytes]:
        """Moves the files of the folder away, as a variant."""
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        for name in files:
            (self.folder / name).unlink()
        return files


class Model(Kind):
    names = ("model.safetensors", "model-1.safetensors", "config.json")
    allowed = (FileNotFoundError,)  # a shard of the weights that the index names
    damaged = "model.safetensors"

    def make(self) -> None:
        dg.manual_seed(0)
        model = dg.Transformer(dg.TransformerConfig(**CONFIG))
        model.save(self.folder)
        self.whole.append(self.take())
        for learned, dtype in ((False, "float32"), (True, "float16")):  # as of other writers
            config = dg.TransformerConfig(**CONFIG, positions="learned", max_length=9) if learned else model.config
            dg.Transformer(config).save(self.folder)
            state = load_file(self.folder / "model.safetensors")
            save_file({name: array.astype(dtype) for name, array in state.items()}, self.folder / "model.safetensors")
            self.whole.append(self.take())

    def damage(self, rng) -> None:
        files = dict(rng.choice(self.whole))
        files[self.damaged] = self.damaged_content(files[self.damaged], rng)
        self.put(files)

    def damaged_content(self, content, rng):
        return damaged_safetensors(content, rng)

    def open(self) -> None:
        with np.errstate(all="ignore"):
            dg.load(self.folder).logits([[5, 6, 2]], [[1, 7]])


class Config(Model):
    damaged = "config.json"

    def damaged_content(self, content, rng):
        return damaged_json_file(content, rng)


class Adapter(Kind):
    names = ("adapter_model.safetensors", "adapter_config.json")

    def make(self) -> None:
        model = dg.Transformer(dg.TransformerConfig(**CONFIG))
        lora.add(model, rank=2, modules=["q_proj", "linear1"])
        lora.save(model, self.folder)
        self.whole.append(self.take())

    def damage(self, rng) -> None:
        files = dict(self.whole[0])
        name = rng.choice(self.names)
        change = damaged_json_file if name.endswith(".json") else damaged_safetensors
        files[name] = change(files[name], rng)
        self.put(files)

    def open(self) -> None:
        model = dg.Transformer(dg.TransformerConfig(**CONFIG))
        lora.load(model, self.folder)
        with np.errstate(all="ignore"):
            model.logits([[5, 6, 2]], [[1, 7]])


class Tokenizers(Kind):
    names = ("tokenizer.json",)

    def make(self) -> None:
        for kind in ("bpe", "unigram", "char"):
            Tokenizer.train(TEXTS * 3, 80, kind).save(self.folder / "tokenizer.json")
            self.whole.append(self.take())
        self.whole += [{"tokenizer.json": json.dumps(values).encode()} for values in foreign_tokenizers()]

    def damage(self, rng) -> None:
        files = rng.choice(self.whole)
        self.put({name: damaged_json_file(content, rng) for name, content in files.items()})

    def open(self) -> None:
        tokenizer = Tokenizer.load(self.folder / "tokenizer.json")
        size = tokenizer.vocab_size
        batch = tokenizer.encode_batch(TEXTS)
        assert [tokenizer.encode(text) for text in TEXTS] == batch or has_dropout(tokenizer)
        assert all(0 <= id < size for ids in batch for id in ids), "an id outside the vocabulary"
        assert sum(map(len, batch)) < 1 << 16, "a text has grown"
        texts = tokenizer.decode_batch([*batch, range(min(size, 400)), []])
        assert sum(map(len, texts)) < 1 << 16, "a text has grown"
        tokenizer.digest()


def has_dropout(tokenizer) -> bool:
    return bool(getattr(tokenizer._backend.model, "dropout", None))


def foreign_tokenizers() -> list[dict]:
    """Tokenizers of all components that the library has."""
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *"abcdefgh \u2581", "ab", "##b", "##c", "abc"])}
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": i == 3, "rstrip": False, "normalized": i == 3,
         "special": i < 3}
        for i, token in enumerate(SPECIALS)
    ]  # fmt: skip
    added.append({**added[0], "id": len(vocabulary), "content": "extra", "single_word": True, "special": False})
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    replace = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    split = {"type": "Split", "pattern": {"String": "d"}, "behavior": "MergedWithNext", "invert": False}
    normalizers = [
        {"type": "Precompiled", "precompiled_charsmap": CHARACTER_MAP},
        {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
         "lowercase": True},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        replace,
        {"type": "Prepend", "prepend": "\u2581"},
        *({"type": name} for name in ("NFD", "NFKC", "StripAccents", "Lowercase", "Nmt")),
    ]  # fmt: skip
    pre_tokenizers = [
        metaspace, split, {"type": "Whitespace"}, {"type": "BertPreTokenizer"}, {"type": "UnicodeScripts"},
        {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True},
        {"type": "CharDelimiterSplit", "delimiter": "x"}, {"type": "FixedLength", "length": 5},
    ]  # fmt: skip
    decoders = [
        {"type": "WordPiece", "prefix": "##", "cleanup": True}, metaspace, {"type": "BPEDecoder", "suffix": "</w>"},
        {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}, replace, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]  # fmt: skip
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": special}
    models = [
        {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 99,
         "vocab": vocabulary},
        {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocabulary},
        {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "##",
         "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "ignore_merges": True,
         "vocab": vocabulary, "merges": ["a ##b", "ab ##c"]},
        {"type": "Unigram", "unk_id": 3, "byte_fallback": False, "vocab": [[token, -1.5] for token in vocabulary]},
    ]  # fmt: skip
    parts = [
        ({"type": "Sequence", "normalizers": normalizers}, {"type": "Sequence", "pretokenizers": pre_tokenizers[:4]}),
        (None, {"type": "Sequence", "pretokenizers": pre_tokenizers}),
        ({"type": "ByteLevel"}, split),
        (normalizers[0], metaspace),
    ]
    return [
        {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
         "pre_tokenizer": pre_tokenizer, "post_processor": processor, "model": model,
         "decoder": {"type": "Sequence", "decoders": decoders} if i else byte_level}
        for i, (model, (normalizer, pre_tokenizer)) in enumerate(zip(models, parts, strict=True))
    ]  # fmt: skip


class Checkpoint(Kind):
    """A run of two steps; what opens as a checkpoint is resumed."""

    names = (".safetensors",)
    allowed = (FloatingPointError,)  # the weights of another model may diverge

    def make(self) -> None:
        self.run = self.folder / "run"
        self.train(2)
        self.kept = {path: path.read_bytes() for path in self.run.rglob("*") if path.is_file()}
        self.path = max((self.run / "checkpoints").iterdir())
        self.content = self.kept[self.path]
        self.whole.append({})
        self.used = False
        model = dg.Transformer(dg.TransformerConfig(**CONFIG))
        self.parts = {"model": model, "optimizer": AdamW(model, 0.1)}

    def train(self, steps: int, **options) -> None:
        dg.manual_seed(0)
        model = dg.Transformer(dg.TransformerConfig(**CONFIG))
        trainer = dg.Trainer(
            model, output=self.run, max_steps=steps, lr=0.01, warmup=1, batch_tokens=6, final="last", log_interval=1
        )
        trainer.fit(PAIRS, **options)

    def damage(self, rng) -> None:
        if self.used:  # the run that went on has written other files
            shutil.rmtree(self.run)
            for path, content in self.kept.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.used = False
        self.path.write_bytes(self.damaged(rng))

    def damaged(self, rng) -> bytes:
        if rng.random() < 0.4:
            content = damaged_safetensors(self.content, rng)
            return redigested(content) if rng.random() < 0.8 else content
        size = int.from_bytes(self.content[:8], "little")
        header = json.loads(self.content[8 : 8 + size])
        metadata = header["__metadata__"]
        metadata["state"] = dumps(damaged_json(json.loads(metadata["state"]), rng))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        text += b" " * (-len(text) % 8)
        return redigested(len(text).to_bytes(8, "little") + text + self.content[8 + size :])

    def open(self) -> None:
        average_checkpoints([self.path])
        load_checkpoint(self.path, self.parts)
        self.used = True
        self.train(3, resume=True)


def redigested(content: bytes) -> bytes:
    """A checkpoint with the SHA-256 that it has now, as one whose writer was careless, or an attacker."""
    place = content.find(DIGEST)
    if place < 0:
        return content
    first = place + len(DIGEST)
    blank = content[:first] + BLANK + content[first + 64 :]
    return content[:first] + sha256(blank).hexdigest().encode() + content[first + 64 :]


class ShardFolder(Kind):
    names = ("data.json", "source.ids", "source.offsets", "target.ids", "target.offsets")
    allowed = (FileNotFoundError,)  # a column that the index names

    def make(self) -> None:
        columns = {"source": [pair[0] for pair in PAIRS], "target": [pair[1] for pair in PAIRS]}
        write_shards(self.folder, {}, {"tokenizer": "x"}, lambda: PAIRS, lambda _: columns)
        self.whole.append(self.take())

    def damage(self, rng) -> None:
        files = dict(self.whole[0])
        name = rng.choice(("data.json", rng.choice(list(files))))
        change = damaged_json_file if name == "data.json" else damaged_bytes
        files[name] = change(files[name], rng)
        self.put(files)

    def open(self) -> None:
        shards = Shards(self.folder)
        shards.lengths(0, len(shards))
        rows = shards[:]
        assert set(shards.names) != {"source", "target"} or rows == [
            tuple(pair[("source", "target").index(name)] for name in shards.names) for pair in PAIRS
        ], "another content"


class Toml(Kind):
    names = ("train.toml",)

    def make(self) -> None:
        arguments = ["--source", "a", "b", "--target", "c", "d", "--output", "o", "--lr", "0.5", "--preset", "small"]
        options = self.parser().parse_args(arguments)
        dumped = config_file.dump(options, {"epochs": 3, "tensorboard": True}, train_command.add_arguments)
        self.whole.append({"train.toml": dumped})

    def parser(self) -> Parser:
        parser = Parser()
        train_command.add_arguments(parser)
        return parser

    def damage(self, rng) -> None:
        content = self.whole[0]["train.toml"]
        if rng.random() < 0.4:
            self.put({"train.toml": damaged_bytes(content, rng)})
            return
        lines = content.decode().splitlines()
        for _ in range(rng.choice((1, 1, 2))):
            i = rng.randrange(len(lines))
            key, _, value = lines[i].partition(" = ")
            try:
                value = dumps(damaged_json(json.loads(value), rng))
            except ValueError:
                value = dumps(damaged_json([value], rng))
            lines[i] = rng.choice((f"{key} = {value}", f"{key} = {value}", f"{value} = {key}", f"{key}.{key} = {value}",
                                   f"[{key}]", f"[[{key}]]", f"{'a.' * 3000}a = 1", f"{key} = {{a = {value}}}",
                                   f"{key}x = {value}", f"{lines[i]}\n{lines[i]}"))  # fmt: skip
        self.put({"train.toml": "\n".join(lines).encode("utf-8", "replace")})

    def open(self) -> None:
        path = str(self.folder / "train.toml")
        arguments = config_file.expand(["--config", path], train_command.add_arguments)
        try:
            self.parser().parse_args(arguments)
        except ValueError as error:
            raise ValueError(f"train.toml: {error}") from None  # it is about the options, which it names


KINDS = {
    "model": Model,
    "config": Config,
    "adapter": Adapter,
    "tokenizer": Tokenizers,
    "checkpoint": Checkpoint,
    "shards": ShardFolder,
    "toml": Toml,
}
