"""Trains a model that writes the headline of a text. Without arguments, of reports that it makes up.

python examples/summarise.py [SOURCES SUMMARIES]     two files; line i of SUMMARIES is the summary of line i of SOURCES
"""

import random
import sys
import tempfile

import dragoman as dg
from dragoman.data.text import read_parallel
from dragoman.train import Summarisation, Trainer

TEAMS = ["Ulm", "Bonn", "Kiel", "Jena", "Trier", "Hof"]
FILLERS = ["It rained.", "The crowd sang.", "A dog ran over the field.", "The lights went out.", "It was cold."]


def reports(count):
    """Made reports of matches. The headline needs the two teams and who has more goals."""
    draw = random.Random(0)
    made = []
    for _ in range(count):
        home, guest = draw.sample(TEAMS, 2)
        goals = draw.sample(range(6), 2)
        middle = draw.sample(FILLERS, draw.randint(1, 4))
        text = [f"{home} met {guest}.", *middle, f"{home} scored {goals[0]}, {guest} scored {goals[1]}."]
        made.append((" ".join(text), f"{home} beats {guest}" if goals[0] > goals[1] else f"{home} loses to {guest}"))
    return made


if len(sys.argv) > 2:
    pairs = read_parallel(*sys.argv[1:3])
    vocabulary, longest, sizes = 8000, 512, {}
    options = {"max_minutes": 30, "warmup": 500, "batch_tokens": 4096, "checkpoint_every": 500}
else:
    pairs = reports(1500)
    vocabulary, longest = 150, 64
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "num_encoder_layers": 2, "num_decoder_layers": 2}
    options = {"max_steps": 200, "warmup": 40, "batch_tokens": 1024, "checkpoint_every": 200, "lr": 4e-3}

random.Random(1).shuffle(pairs)
held_out, train = pairs[: min(200, len(pairs) // 10)], pairs[min(200, len(pairs) // 10) :]
tokenizer = dg.Tokenizer.train((text for pair in train for text in pair), vocabulary)
task = Summarisation(tokenizer)

dg.manual_seed(0)
fields = task.config_fields() | {"max_source_length": longest} | sizes
model = dg.Transformer(dg.TransformerConfig.small(**fields))
folder = tempfile.mkdtemp()
try:
    import rouge_score  # noqa: F401  # pip install 'dragoman[summarise]'

    options["best_by"] = "rougeL"
except ModuleNotFoundError:
    print("without rouge-score, the loss alone is measured")
records = Trainer(model, task=task, output=folder, **options).fit(train, held_out)
print({name: round(value, 2) for name, value in records[-1].items() if isinstance(value, float)})

summarise = dg.Translator.load(folder)
for (text, summary), found in zip(held_out[:3], summarise([text for text, _ in held_out[:3]]), strict=True):
    print(f"{text[:70]}...\n  {found}   (reference: {summary})")
