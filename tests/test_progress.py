"""Progress for people: what the bar says."""

import pytest
from rich.console import Console

from pocketseq.pipeline.reports import progress as module
from pocketseq.pipeline.reports.progress import training_progress
from pocketseq.pipeline.training.progress import Progress


@pytest.fixture
def terminal(monkeypatch):
    console = Console(force_terminal=True, width=80)
    monkeypatch.setattr(module, "Console", lambda **_: console)
    return console


def test_the_bar_fits_a_terminal_and_shows_loss_dev_metric_speed_and_place(
    terminal, capsys
):
    dev = {"examples": 450, "wer": 27.39, "per": 6.4}
    with training_progress() as on_progress:
        on_progress(Progress(1230, 6000, 0.5214, 25432.0, dev, "wer"))
        on_progress(Progress(1240, 6000, 0.5214, 25432.0, dev, "wer"))
    text = capsys.readouterr().out
    for part in ("1240/6000", "loss 0.521", "dev wer 27.4", "25,432 tokens/s"):
        assert part in text


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    with training_progress() as on_progress:
        on_progress(Progress(10, 100, 1.0, 5.0, {}, "wer"))
    assert capsys.readouterr() == ("", "")
