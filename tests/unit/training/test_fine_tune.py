"""What a fine-tuning says about itself."""

import math
import warnings
from types import SimpleNamespace

import pytest

from treedet.errors import TreedetWarning
from treedet.training.fine_tune import FineTuned, _warn_of_a_loss


def tuned(history, best_epoch, start):
    at_start = None if start is None else {"val_f1": start}
    return FineTuned(None, None, history, best_epoch, "all epochs done", at_start, (), SimpleNamespace())


def test_what_was_reached_is_that_of_the_weights_kept():
    history = [{"val_f1": 0.3}, {"val_f1": 0.6}, {"val_f1": 0.5}]
    assert tuned(history, 2, 0.4).reached == 0.6
    assert math.isnan(tuned([{"loss": 1.0}], 1, None).reached)


def test_a_model_that_got_worse_is_warned_of():
    with pytest.warns(TreedetWarning, match=r"0\.40 before, 0\.30 after"):
        _warn_of_a_loss(tuned([{"val_f1": 0.3}], 1, 0.4))


@pytest.mark.parametrize(
    ("history", "start"), [([{"val_f1": 0.4}], 0.4), ([{"val_f1": 0.398}], 0.4), ([{"loss": 1.0}], None)]
)
def test_one_that_did_not_is_not(history, start):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_a_loss(tuned(history, 1, start))
