"""Scores: Unicode forms, sacreBLEU's tokenizers, and what is missing for one."""

import json
import sys
from unicodedata import normalize

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.train import Trainer, Translation, scores

sacrebleu = pytest.importorskip("sacrebleu")

TEXTS = ["Über die Brücke fährt ein Mädchen.", "Các bạn đi đâu đấy thế này?", "한국어 문장 하나 둘 셋"]


def bleu_of(outputs, references, **options):
    metric = scores.bleu(**options)
    metric.add(outputs, references)
    return metric.value()


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD"), ("NFC", "NFC")])
def test_a_perfect_copy_in_another_unicode_form_is_perfect(forms):
    outputs, references = ([normalize(form, text) for text in TEXTS] for form in forms)
    assert bleu_of(outputs, references) == pytest.approx(100)
    assert bleu_of(outputs, references, lowercase=True) == pytest.approx(100)
    metric = scores.chrf()
    metric.add(outputs, references)
    assert metric.value() == pytest.approx(100)


def test_the_names_are_those_of_sacrebleu():
    from sacrebleu.metrics import BLEU

    assert set(scores.TOKENIZERS) <= set(BLEU.TOKENIZERS)


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_the_tokenizer_is_the_one_that_was_asked_for(tokenize):
    outputs, references = ["一只黑狗在跑。", "两个人 walk."], ["一只狗在跑。", "两个人 are walking."]
    metric = scores.bleu(tokenize=tokenize)
    metric.add(outputs[:1], references[:1])  # in two parts
    metric.add(outputs[1:], references[1:])
    assert metric.value() == pytest.approx(sacrebleu.corpus_bleu(outputs, [references], tokenize=tokenize).score)
    assert f"tok:{tokenize}|" in metric.signature()


def test_what_a_tokenizer_needs_is_named(monkeypatch):
    from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_ko_mecab

    monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)
    monkeypatch.setattr(tokenizer_ko_mecab, "MeCab", None)
    for tokenize, extra in (("ja-mecab", "ja"), ("ko-mecab", "ko")):
        with pytest.raises(ModuleNotFoundError, match=rf"BLEU's {tokenize} needs pip install 'sacrebleu\[{extra}\]'"):
            scores.bleu(tokenize=tokenize)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModuleNotFoundError, match="BLEU's flores200 needs pip install sentencepiece, and a model"):
        scores.bleu(tokenize="flores200")
    with pytest.raises(ValueError, match=r"scores: tokenize must be one of 13a, intl, .*, got 'moses'"):
        scores.bleu(tokenize="moses")


def test_outputs_and_references_pair_up():
    with pytest.raises(ValueError, match="references must be 2, as outputs, got 1"):
        scores.chrf().add(["a", "b"], ["a"])


@pytest.fixture(scope="module")
def model_and_tokenizer():
    pytest.importorskip("tokenizers")
    dg.manual_seed(0)
    tokenizer = dg.Tokenizer.train(TEXTS, 64, "char")
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1
    )
    return dg.Transformer(config), tokenizer


def test_training_validates_with_the_tokenizer_of_its_options(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    options = {"task": Translation(tokenizer), "best_by": "bleu", "max_steps": 1, "warmup": 1}
    pairs = [(text, text) for text in TEXTS]
    records = Trainer(model, bleu_tokenize="char", **options).fit(pairs, pairs)
    assert "tok:char" in next(r["valid_bleu_signature"] for r in records if "valid_bleu_signature" in r)
    with pytest.raises(ValueError, match=r"Trainer: bleu_tokenize must be one of 13a, .*, got 'mecab'"):
        Trainer(model, bleu_tokenize="mecab", **options)


def test_evaluate_has_the_choice(model_and_tokenizer, tmp_path, capsys, monkeypatch):
    from sacrebleu.tokenizers import tokenizer_ko_mecab

    monkeypatch.setattr(tokenizer_ko_mecab, "MeCab", None)
    model, tokenizer = model_and_tokenizer
    model.save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "text").write_text("".join(f"{text}\n" for text in TEXTS))
    arguments = ["evaluate", str(tmp_path), f"--source={tmp_path / 'text'}", f"--target={tmp_path / 'text'}"]
    assert main([*arguments, "--beam=1", "--max-length=4", "--bleu-tokenize=char"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "tok:char" in result["bleu_signature"]
    assert "tok:char" in result["bleu_lowercase_signature"]
    assert main([*arguments, "--bleu-tokenize=ko-mecab"]) == 2
    assert "ko-mecab needs pip install 'sacrebleu[ko]'" in capsys.readouterr().err


class TestRouge:
    """ROUGE, where rouge-score is installed."""

    @pytest.fixture(autouse=True)
    def needs_the_library(self):
        pytest.importorskip("rouge_score")

    @staticmethod
    def rouge_of(kind, outputs, references):
        metric = scores.rouge(kind)
        metric.add(outputs[:1], references[:1])  # in two parts
        metric.add(outputs[1:], references[1:])
        assert str(metric) == f"{scores.ROUGES[kind]} = {metric.value():.2f}"
        return metric.value()

    def test_by_hand(self):
        outputs, references = ["the cat sat down", ""], ["The cat was sitting down.", "a dog"]
        assert self.rouge_of("rouge1", outputs, references) == pytest.approx(100 * (2 * 3 / 9 + 0) / 2)
        assert self.rouge_of("rouge2", outputs, references) == pytest.approx(100 * (2 * 1 / 7 + 0) / 2)
        assert self.rouge_of("rougeL", outputs, references) == pytest.approx(100 * (2 * 3 / 9 + 0) / 2)
        assert scores.rouge("rouge1").value() == 0

    @pytest.mark.parametrize("kind", scores.ROUGES)
    def test_english_is_scored_as_by_the_library(self, kind):
        from rouge_score.rouge_scorer import RougeScorer

        outputs = ["The quick brown fox, it's 3 years old!", "Ten men walk", "no", ""]
        references = ["A quick fox is 3 years old; it's brown.", "Men walk: ten of them.", "yes", "x"]
        scorer = RougeScorer([kind])
        pairs = zip(references, outputs, strict=True)
        expected = [scorer.score(reference, output)[kind].fmeasure for reference, output in pairs]
        assert self.rouge_of(kind, outputs, references) == pytest.approx(100 * sum(expected) / 4)

    def test_words_of_every_alphabet_count(self):
        for text in (*TEXTS, "一只黑狗在跑。", "犬が走る"):
            for form in ("NFC", "NFD"):
                assert self.rouge_of("rouge2", [normalize(form, text)], [text]) == pytest.approx(100)
        assert self.rouge_of("rouge1", ["영화 좋다"], ["음악 좋다"]) == pytest.approx(50)
        assert self.rouge_of("rouge1", ["黑狗"], ["白狗"]) == pytest.approx(50)

    def test_errors(self, monkeypatch):
        with pytest.raises(ValueError, match="scores: kind must be one of rouge1, rouge2, rougeL, got 'rouge3'"):
            scores.rouge("rouge3")
        with pytest.raises(ValueError, match="references must be 2, as outputs, got 1"):
            scores.rouge("rouge1").add(["a", "b"], ["a"])
        monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
        with pytest.raises(ModuleNotFoundError, match=r"ROUGE needs the extra: pip install 'dragoman\[summarise\]'"):
            scores.rouge("rouge1")
