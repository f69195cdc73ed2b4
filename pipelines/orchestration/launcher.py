"""Runs in processes of the code server, and word of those that died with it."""

from __future__ import annotations

from pipelines.orchestration.dagster_private.classes import AskedRunLauncher


class CodeServerRunLauncher(AskedRunLauncher):
    """The stock launcher, that can also be asked whether a run is still alive.

    A code server tells of a run whose process died, but of none when it is killed itself: such a run would count as
    started for hours, and every tick would wait for it. A server that knows nothing of a run does not run it.
    """

    def is_alive(self, run_id: str) -> tuple[bool, str | None]:
        """False when the run's code server does not have it; True as long as nobody can say."""
        try:
            known = self.runs_beside(run_id)
        except ConnectionError:
            return True, "the code server does not answer"
        if known is None:
            return True, "not launched in a code server"
        if run_id in known:
            return True, None
        return False, "its process is gone with the code server"
