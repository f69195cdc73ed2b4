"""An error that a user can put right, shown in a run as such: the message and the way out, no stack of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import dagster as dg

from pipelines.errors import DuemarkError


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn a DuemarkError into a failure whose description says what is wrong and what to do."""
    try:
        yield
    except DuemarkError as error:
        metadata = {"what to do": dg.MetadataValue.text(error.hint)} if error.hint else {}
        raise dg.Failure(description=str(error), metadata=metadata, allow_retries=False) from error
