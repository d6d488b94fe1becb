import json

import dragoman as dg
from dragoman.cli import bench, main


def test_bench_command(monkeypatch, capsys):
    monkeypatch.setattr(bench, "SIZE", 64)
    monkeypatch.setattr(bench, "SENTENCES", 2)
    monkeypatch.setattr(bench, "LENGTH", 8)
    assert main(["bench", "--preset", "tiny", "--seconds", "0"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["isa"] == dg.cpu_isa() and result["threads"] == dg.num_threads()
    assert result["version"] == dg.__version__ and result["cpu"]
    assert set(result["product_gflops"]) == {"float32", "bfloat16"}
    figures = [*result["product_gflops"].values()]
    for name in ("train_tokens_per_s", "decode_tokens_per_s"):
        figures += result[name].values()
    assert all(figure > 0 for figure in figures)
    assert len(table) == 1 + len(figures)


def test_bench_refuses_a_negative_time(capsys):
    assert main(["bench", "--seconds", "-1"]) == 2
    assert capsys.readouterr().err == "dragoman bench: --seconds must be a number in [0, 3600], got '-1'\n"
