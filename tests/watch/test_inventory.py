"""What is expected to run is what the definitions hold: whoever adds a sensor or schedule adds it here, too."""

from __future__ import annotations

import dagster as dg
import pytest

from sensors.definitions import build_defs as build_oncall
from sensors.oncall.watch.limits import EXPECTED


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    with pytest.MonkeyPatch.context() as patch:
        # The module builds definitions of its own when it is imported: not in the developer's home.
        patch.setenv("DUEMARK_HOME", str(tmp_path_factory.mktemp("home")))
        from pipelines.definitions import build_defs

        return build_defs()


def test_the_inventory_is_complete(pipelines: dg.Definitions) -> None:
    found = set()
    for location, definitions in (("oncall", build_oncall()), ("pipelines", pipelines)):
        repository = definitions.get_repository_def()
        declared = {one.name: one.default_status.value for one in repository.sensor_defs}
        declared |= {one.name: one.default_status.value for one in repository.schedule_defs}
        # None would have to be switched on by hand.
        assert set(declared.values()) == {"RUNNING"}
        found |= {(location, name) for name in declared}
    assert found == EXPECTED
