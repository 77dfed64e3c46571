from __future__ import annotations

import subprocess
import sys

import pytest

from memedge import models
from memedge.errors import UsageError


def test_available_models_come_first() -> None:
    cards = models.cards()
    available = [card.id for card in cards if card.status == "available"]
    assert {"memedge-s", "resnet-s", "resnet101", "resnet18", "amnetvid", "m3s-mid"} <= set(available)
    assert [card.id for card in cards][: len(available)] == available
    assert len({card.id for card in cards}) == len(cards) > 25


def test_golden_counts_stand_on_the_cards() -> None:
    assert models.card("resnet18").parameters == 11_177_025
    assert round(models.card("resnet18").macs / 1e9, 3) == 1.814
    assert models.card("resnet101").parameters == 42_502_209
    assert round(models.card("resnet101").macs / 1e9, 3) == 7.799
    assert models.card("resnet-s").parameters <= 3_000_000
    assert models.card("memedge-s").parameters <= 3_000_000


def test_ours_is_marked_and_quotes_no_paper() -> None:
    ours = [card for card in models.cards() if card.ours]
    assert [card.id for card in ours] == ["memedge-s", "resnet-s"]
    assert all(card.published == "" for card in ours)
    assert all(card.published and card.source for card in models.cards() if not card.ours)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'resnet101'"):
        models.card("resnet10l")
    with pytest.raises(UsageError, match="no model 'zzz'"):
        models.card("zzz")


def test_cards_need_no_torch() -> None:
    code = "import sys, memedge.models as m; m.cards(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
