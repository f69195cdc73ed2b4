"""From which probability on an occurrence is at risk: what a warning costs against what it saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

SOON = 0.5
"""Within `warn_before` of the due time it is at risk once a miss is as likely as not."""
EARLY = 0.9
"""Before that only when a miss is nearly sure: there is time, and forecasts change."""
OVER = 0.25
"""A risk that was told of is over below this: between the two nothing is told, so that it does not flap."""
ENOUGH = 10
"""Past dates without which nobody is warned."""

CONSTANTS: Mapping[str, Callable[[], str]] = {
    "DUEMARK_DBT_RISK_SOON": lambda: str(SOON),
    "DUEMARK_DBT_RISK_EARLY": lambda: str(EARLY),
    "DUEMARK_DBT_RISK_OVER": lambda: str(OVER),
    "DUEMARK_DBT_RISK_ENOUGH": lambda: str(ENOUGH),
}
