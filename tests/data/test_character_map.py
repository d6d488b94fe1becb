"""Character maps of SentencePiece: a whole one works, a damaged one is refused before the library reads it."""

import base64
import json

import pytest
from damaged_kinds import CHARACTER_MAP, foreign_tokenizers
from dragoman.data.character_map import check_character_map, growth_of_character_map
from dragoman.data.tokenizer import Tokenizer

DATA = base64.b64decode(CHARACTER_MAP)
SIZE = int.from_bytes(DATA[:4], "little")


def test_a_whole_map_works(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(foreign_tokenizers()[3]))
    tokenizer = Tokenizer.load(path)
    assert tokenizer.encode("A") == tokenizer.encode("a") != tokenizer.encode("b")
    assert growth_of_character_map(CHARACTER_MAP) == 2


def with_unit(number, unit):
    place = 4 + 4 * number
    return DATA[:place] + unit.to_bytes(4, "little") + DATA[place + 4 :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must begin with the size of its trie, got 0 of 0 bytes"),
        (DATA[:3], "must begin with the size of its trie"),
        (b"\xff\xff\xff\xff" + DATA[4:], "must begin with the size of its trie, got 4294967295 of 1033 bytes"),
        (b"\0\xfc\xff\xff" + DATA[4:], "must begin with the size of its trie, got 4294966272 of 1033 bytes"),
        (b"\0\0\0\0" + DATA[4:], "must begin with the size of its trie, got 0 of"),
        (b"\x03\x04\0\0" + DATA[4:], "must begin with the size of its trie, got 1027 of"),
        (DATA[:-1], "must end in a zero byte"),
        (DATA[: 4 + SIZE], "must end in a zero byte"),
        (DATA[:-2] + b"\xff\0", "must hold texts in UTF-8"),
        (with_unit(0, 0x7FFFFC00), "unit 0 of the trie must branch inside it"),
        (with_unit(0, 1 << 8), "unit 0 of the trie must say where a text begins"),
    ],
)
def test_a_damaged_map_is_refused(data, message):
    with pytest.raises(ValueError, match=f"map.*{message}"):
        check_character_map("map", base64.b64encode(data).decode())


@pytest.mark.parametrize("value", [None, 3, "###", "abc", CHARACTER_MAP[:-1], "A" * (1 << 24) + "AAAA", "é"])
def test_what_is_no_base64_is_refused(value):
    with pytest.raises(ValueError, match="map must be base64"):
        check_character_map("map", value)


def test_every_byte_of_a_map_is_checked():
    """With any one byte changed, every leaf still says where a text begins, or the map is refused."""
    texts = DATA[4 + SIZE :]
    refused = 0
    for place in range(4, 4 + SIZE):
        changed = DATA[:place] + bytes([DATA[place] ^ 0xFF]) + DATA[place + 1 :]
        try:
            check_character_map("map", base64.b64encode(changed).decode())
        except ValueError:
            refused += 1
    assert refused > SIZE // 2 and texts.count(b"\0") == 2
