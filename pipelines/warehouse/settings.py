"""Settings, all from the environment, each with a default that works."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The checkout: the demonstration catalog and the dbt project lie beside the package. In an installed wheel they
# are given by DUEMARK_CATALOG and DUEMARK_DBT_PROJECT.
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Where things are.

    `home` holds the embedded server, Dagster's home and dbt's target; `database_url` is a libpq URL of a database
    on a server of your own (15 or newer), None for the embedded one; `landing` is a folder or any fsspec URL;
    `dagster_database` names the database, on the same server, of Dagster's own storage. `dbt_target` is where dbt keeps
    what it parsed (None: `target` in the home); an image brings it along.
    """

    home: Path
    database_url: str | None
    catalog: Path
    landing: str
    dbt_project: Path
    dagster_database: str = "dagster"
    dbt_target: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment.

        `DUEMARK_HOME`, `DUEMARK_DATABASE_URL`, `DUEMARK_CATALOG`, `DUEMARK_LANDING`, and the rarer ones,
        `DUEMARK_DBT_PROJECT`, `DUEMARK_DBT_TARGET` and `DUEMARK_DAGSTER_DATABASE`.
        """
        env = os.environ if env is None else env
        home = Path(env.get("DUEMARK_HOME") or ".duemark").expanduser().absolute()
        return cls(
            home=home,
            database_url=env.get("DUEMARK_DATABASE_URL") or None,
            catalog=Path(env.get("DUEMARK_CATALOG") or ROOT / "catalog").expanduser().absolute(),
            landing=env.get("DUEMARK_LANDING") or str(home / "landing"),
            dbt_project=Path(env.get("DUEMARK_DBT_PROJECT") or ROOT / "dbt_project").expanduser().absolute(),
            dagster_database=env.get("DUEMARK_DAGSTER_DATABASE") or "dagster",
            dbt_target=Path(target).expanduser().absolute()
            if (target := env.get("DUEMARK_DBT_TARGET"))
            else None,
        )

    def as_env(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        env = {
            "DUEMARK_HOME": str(self.home),
            "DUEMARK_CATALOG": str(self.catalog),
            "DUEMARK_LANDING": self.landing,
            "DUEMARK_DBT_PROJECT": str(self.dbt_project),
            "DUEMARK_DAGSTER_DATABASE": self.dagster_database,
        }
        if self.dbt_target:
            env["DUEMARK_DBT_TARGET"] = str(self.dbt_target)
        if self.database_url:
            env["DUEMARK_DATABASE_URL"] = self.database_url
        return env
