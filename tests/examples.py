"""How many examples property tests draw, and what hypothesis must not mind: how long one takes."""

from __future__ import annotations

import os

import hypothesis
from hypothesis import HealthCheck

# Another factor looks further, at examples of its own every time: DUEMARK_TEST_EXAMPLES=20.
FACTOR = float(os.environ.get("DUEMARK_TEST_EXAMPLES", "1"))


def examples(count: int) -> hypothesis.settings:
    """So many examples, the same in every run; each takes as long as it takes."""
    return hypothesis.settings(
        max_examples=max(1, int(count * FACTOR)),
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def load() -> None:
    """Make it so for tests that say nothing themselves: hypothesis would fail those that take 200 ms."""
    hypothesis.settings.register_profile("duemark", examples(100))
    hypothesis.settings.load_profile("duemark")
