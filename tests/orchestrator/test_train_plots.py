"""Claims about a run's log: what a kill tore or a checkpoint repeats does not show."""

import json

from orchestrator.train_plots import plot_run, read_log


def judged(step, *shares):
    return {"step": step, "epoch": step, "held_out": shares, "tau": 1 + sum(shares), "held_out_loss": 3.0}


def test_repeated_steps_count_once_and_a_torn_line_not_at_all(tmp_path):
    lines = [
        judged(0, 0.1, 0.0),
        {"step": 20, "epoch": 0, "loss": 5.0},
        {"step": 40, "epoch": 0, "loss": 9.0},
    ]
    again = [{"step": 40, "epoch": 0, "loss": 4.0}, judged(50, 0.3, 0.1)]
    log = tmp_path / "log.jsonl"
    log.write_text(
        "\n".join(map(json.dumps, lines)) + '\n{"step": 60, "lo\n' + "\n".join(map(json.dumps, again))
    )
    learned, found = read_log(log)
    assert [(line["step"], line["loss"]) for line in learned] == [(20, 5.0), (40, 4.0)]
    assert [line["step"] for line in found] == [0, 50]
    names = [path.name for path in plot_run(log, tmp_path)]
    assert names == ["loss.png", "loss.svg", "acceptance.png", "acceptance.svg"]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "acceptance.svg").read_text()


def test_a_run_that_has_not_begun_has_no_picture(tmp_path):
    assert plot_run(tmp_path / "log.jsonl", tmp_path) == []
