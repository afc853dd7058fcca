"""Tests of pocketseq.pipeline.training.state and of the way back to one."""

import dataclasses
import json

import numpy as np
import pytest

from pocketseq.pipeline.training.rewind import Rewind
from pocketseq.pipeline.training.state import Position, TrainingState

START = TrainingState.of_start("cer", 2)


def evaluated(state, *rates):
    """The state after an evaluation every update, with these error rates."""
    for rate in rates:
        state = state.updated(0, 0).evaluated({"cer": rate, "exact": 100 - rate})
    return state


def test_an_update_moves_its_worker_on_and_leaves_the_value_alone():
    state = START.updated(1, 0).updated(1, 0)
    assert (state.update_number, state.positions) == (2, ((0, 0), (0, 2)))
    assert (START.update_number, START.positions) == (0, ((0, 0), (0, 0)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.update_number = 3  # type: ignore[misc]


def test_batches_are_counted_anew_in_another_epoch():
    state = START.updated(0, 0).updated(0, 0).updated(0, 1)
    assert state.positions[0] == (1, 1)


def test_a_better_evaluation_is_the_best_and_worse_ones_are_counted():
    state = evaluated(START, 30, 10)
    assert (state.best, state.best_update, state.worse_evaluations) == (10, 2, 0)
    assert not state.is_improved_by({"cer": 20, "exact": 90})
    state = evaluated(state, 20, 10)
    assert (state.best, state.best_update, state.worse_evaluations) == (10, 2, 2)
    assert state.is_improved_by({"cer": 10, "exact": 91})
    assert state.dev == {"cer": 10, "exact": 90}


def test_a_metric_is_stuck_when_three_evaluations_are_equal_and_not_perfect():
    assert not evaluated(START, 40, 40).metric_is_stuck
    assert evaluated(START, 40, 40, 40).metric_is_stuck
    assert not evaluated(START, 40, 40, 30, 30).metric_is_stuck
    assert not evaluated(START, 0, 0, 0).metric_is_stuck


@pytest.mark.parametrize("state", [START, evaluated(START, 30, 10, 20)])
def test_arrays_of_a_checkpoint_give_the_state_back(state):
    arrays = state.to_arrays()
    assert TrainingState.is_in(arrays)
    assert TrainingState.from_arrays(arrays, "character") == state


def test_the_counters_of_a_checkpoint_keep_their_names():
    arrays = evaluated(START, 30).to_arrays()
    assert set(arrays) == {"positions", "counters"}
    np.testing.assert_array_equal(arrays["positions"], [[0, 1], [0, 0]])
    assert json.loads(str(arrays["counters"])) == {
        "update_number": 1, "best": 30, "best_rank": [-30, 70], "best_update": 1,
        "worse_evaluations": 0, "evaluations": 1, "metric_has_moved": False,
        "evaluated_update": 1, "dev": {"cer": 30, "exact": 70}, "metric": "cer",
    }  # fmt: skip


def test_without_a_saved_tie_breaker_a_tie_is_no_gain():
    arrays = evaluated(START, 30).to_arrays()
    counters = json.loads(str(arrays["counters"]))
    del counters["best_rank"]
    arrays["counters"] = np.array(json.dumps(counters))
    state = TrainingState.from_arrays(arrays, "character")
    assert not state.is_improved_by({"cer": 30, "exact": 100})
    assert state.is_improved_by({"cer": 29, "exact": 0})


@pytest.mark.parametrize(("kind", "metric"), [("word", "wer"), ("wordpiece", "bleu")])
def test_before_metrics_had_names_the_target_decided(kind, metric):
    arrays = START.to_arrays()
    counters = json.loads(str(arrays["counters"]))
    del counters["metric"]
    arrays["counters"] = np.array(json.dumps(counters))
    assert TrainingState.from_arrays(arrays, kind).metric == metric


def test_other_workers_begin_the_epoch_anew(caplog):
    state = START.at(np.array([[3, 7], [4, 1]]))
    assert state.for_workers(2) is state
    assert state.for_workers(3).positions == (Position(4, 0),) * 3
    assert "3 workers instead of 2: the epoch begins anew" in caplog.text


def test_another_metric_chooses_from_its_first_evaluation_on(caplog):
    state = evaluated(START, 30, 40).judged_by("exact")
    assert state.is_improved_by({"exact": 1})
    assert (state.metric, state.best, state.worse_evaluations) == ("exact", None, 0)
    assert "chosen by dev cer; from here on exact chooses" in caplog.text


# The way back.


def test_the_way_back_leads_to_the_state_before_an_update():
    rewind, state = Rewind(10), START
    for _ in range(25):
        rewind.note(state)
        state = state.updated(0, state.update_number // 4)
    for number in range(15, 25):
        found = rewind.before(number)
        assert (found.update_number, found.positions[0].epoch) == (
            number, (number - 1) // 4,
        )  # fmt: skip


def test_a_state_that_is_too_old_is_an_error():
    rewind = Rewind(2)
    for number in range(3):
        rewind.note(dataclasses.replace(START, update_number=number))
    with pytest.raises(ValueError, match="update 0: expected one of the last 2"):
        rewind.before(0)
