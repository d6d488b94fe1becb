"""Small tokenizer folders as other libraries write them, made from nothing: for tests."""

import json
import struct

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)

WORDS = "the a cat dog sat on mat and house big Hello world to be or not"
SUBWORDS = [
    *(f"\u2581{word}" for word in WORDS.split()),
    *("\u2581", "s", "th", "e", "ing", "at", "ca", "do", "g", "t", "a", "c", "d", "o", "n", "i", "h", "l", "w", "r"),
    *("\u2581sitting", "m", "b", "u", ".", ",", "!", "1", "2", "é", "北", "ö", "p", "k", "f", "y", "v", "H", "ed"),
]

TEXTS = [
    *("the cat sat on the mat.", "Hello  world ", " a big dog", "", "   ", "houses, and 12 cats!", "naïve café ½ ﬁne"),
    *("北京 zebra", "😀 on the mat", "tab\tnew\nline", "a\u2581b", "end\u200b.", "ÉCOLE", "a.b,c", "sitting sitting"),
]


def varint(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def sentencepiece(pieces, *, bpe=False, byte_fallback=False, spaces=True, dummy=True, character_map=b""):
    """The content of a SentencePiece model. `pieces` are (text, score, kind)."""
    content = b""
    for text, score, kind in pieces:
        content += block(1, block(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind))
    content += block(2, number(3, 2 if bpe else 1) + number(35, int(byte_fallback)))
    return content + block(3, block(2, character_map) + number(3, int(dummy)) + number(4, int(spaces)))


def pieces(special=(("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)), more=()):
    """Special pieces, and subwords with different scores."""
    plain = [(text, -2.0 - 0.37 * i, NORMAL) for i, text in enumerate([*SUBWORDS, *more])]
    return [*((text, 0.0, kind) for text, kind in special), *plain]


T5_SPECIAL = (("<pad>", CONTROL), ("</s>", CONTROL), ("<unk>", UNKNOWN))
BYTES = tuple((f"<0x{byte:02X}>", BYTE) for byte in range(256))
LLAMA_SPECIAL = (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), *BYTES)


def bpe_pieces(special):
    """Single characters, and what merges make of them: the piece that is formed first has the highest score."""
    plain = [text for text in SUBWORDS if len(text) == 1]
    for text in SUBWORDS:
        plain += [text[:end] for end in range(2, len(text) + 1)]
    return [
        *((text, 0.0, kind) for text, kind in special),
        *((text, -float(i), NORMAL) for i, text in enumerate(dict.fromkeys(plain))),
    ]


def write(folder, **files):
    """Writes files; "__" in a name stands for a dot. A dict is written as JSON. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content, ensure_ascii=False)
        path = folder / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def t5(folder, **config):
    return write(
        folder,
        spiece__model=sentencepiece(pieces(T5_SPECIAL)),
        tokenizer_config__json={"tokenizer_class": "T5Tokenizer", "extra_ids": 5, **config},
    )


def fairseq(folder, kind, **config):
    """XLM-R, mBART or NLLB."""
    return write(
        folder,
        sentencepiece__bpe__model=sentencepiece(pieces()),
        tokenizer_config__json={"tokenizer_class": kind, **config},
    )


def marian(folder, codes=(), **config):
    names = ["</s>", "<unk>", *codes, *SUBWORDS, "<pad>"]
    models = {
        name: sentencepiece(pieces(more=more)) for name, more in (("source__spm", ("ty",)), ("target__spm", ("ng",)))
    }
    return write(
        folder,
        **models,
        vocab__json={name: id for id, name in enumerate(names)},
        tokenizer_config__json={"tokenizer_class": "MarianTokenizer", **config},
    )


def m2m100(folder, **config):
    return write(
        folder,
        sentencepiece__bpe__model=sentencepiece(pieces()),
        vocab__json={name: id for id, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *SUBWORDS[:-2]])},
        tokenizer_config__json={"tokenizer_class": "M2M100Tokenizer", **config},
    )


def bert(folder, **config):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "##s", "a", "##t", "c"]
    words += ["##e", "hello", "world", ".", ",", "!", "naive", "cafe", "b", "##ig", "北", "京", "h", "##ouse", "and"]
    return write(
        folder,
        vocab__txt="\n".join([*words, "naïve", "É", "##COLE", "Hello"]) + "\n",
        tokenizer_config__json={"tokenizer_class": "BertTokenizer", **config},
    )


def byte_level(folder, kind, merges=("Ġ t", "h e", "Ġt he", "a t", "Ġ c", "Ġc at", "o n", "Ġ on", "l l"), **config):
    """GPT-2's files, with all bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if kind == "RobertaTokenizer" else ["<|endoftext|>"]
    names = [*special, *sorted(alphabet), *(merge.replace(" ", "") for merge in merges)]
    return write(
        folder,
        vocab__json={name: id for id, name in enumerate(names)},
        merges__txt="#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges),
        tokenizer_config__json={"tokenizer_class": kind, **config},
    )


def llama(folder, **config):
    return write(
        folder,
        tokenizer__model=sentencepiece(bpe_pieces(LLAMA_SPECIAL), bpe=True, byte_fallback=True, spaces=False),
        tokenizer_config__json={"tokenizer_class": "LlamaTokenizer", **config},
    )
