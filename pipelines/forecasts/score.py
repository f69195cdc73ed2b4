"""How good forecasts were, against what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.forecasts.ends import Bools, Floats, Ints


@dataclass(frozen=True)
class Score:
    """Of some forecasts. Losses and lead in minutes; nan where there was nothing to judge.

    `loss_p50` and `loss_p80`: mean pinball loss. `covered`: share of ends from p10 to p90. A miss is announced by the
    forecasts that say it will be one: `precision` and `recall` count forecasts; `lead` is the median time before the
    due time of the first announcement of a miss; `false_alarms` counts dates announced that were kept.
    """

    forecasts: int
    ended: int
    loss_p50: float
    loss_p80: float
    covered: float
    precision: float
    recall: float
    lead: float
    false_alarms: int


def pinball(level: float, quantile: Floats, end: Floats) -> Floats:
    """Loss in the unit of the instants: `level` of what is above, 1 - `level` of what is below."""
    over = end - quantile
    loss: Floats = np.maximum(level * over, (level - 1) * over)
    return loss


def score(
    occurrence: Ints, lead: Floats, due: Floats, end: Floats, p10: Floats, p50: Floats, p80: Floats, p90: Floats,
    will_miss: Bools,
) -> Score:  # fmt: skip
    """Of forecasts in rows; `occurrence` tells those of one date apart, `lead` in seconds, `end` nan: never."""
    ended = ~np.isnan(end)
    is_miss = ~(end <= due)
    hits = will_miss & is_miss
    announced = np.unique(occurrence[hits])
    leads = [lead[hits & (occurrence == one)].max() / 60 for one in announced]
    return Score(
        forecasts=len(end),
        ended=int(ended.sum()),
        loss_p50=_mean(pinball(0.5, p50, end)[ended]) / 60,
        loss_p80=_mean(pinball(0.8, p80, end)[ended]) / 60,
        covered=_mean(((p10 <= end) & (end <= p90))[ended]),
        precision=_mean(is_miss[will_miss]),
        recall=_mean(will_miss[is_miss]),
        lead=float(np.median(leads)) if leads else np.nan,
        false_alarms=len(np.unique(occurrence[will_miss & ~is_miss])),
    )


def _mean(values: Floats | Bools) -> float:
    return float(values.mean()) if len(values) else np.nan
