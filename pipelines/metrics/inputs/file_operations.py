"""Files that were shared or deleted, in the applications that tell of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.metrics.facts import Facts
from pipelines.metrics.registry import Input

if TYPE_CHECKING:
    from pipelines.metrics.lines import Lines

CREATED, DELETED = "FILE_CREATED", "FILE_DELETED"

DOCUMENTS = "/api/documents/"
HEADERS = {"x-tfm-files-added": CREATED, "x-tfm-files-deleted": DELETED}
# More digits are no count of files.
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)


def file_operations(lines: Lines) -> Facts | None:
    """edupi: its own requests, one file each. file-manager: headers of any response, with how many."""
    positions: list[int] = []
    kinds: list[str] = []
    amounts: list[int] = []
    for host_code, site in lines.sites:
        if site.ident == "edupi":
            where = np.flatnonzero(lines.host_codes == host_code)
            for kind, found in _documents(lines, where):
                positions += found.tolist()
                kinds += [kind] * len(found)
                amounts += [1] * len(found)
        elif site.ident == "file-manager":
            for position in np.flatnonzero(lines.host_codes == host_code).tolist():
                line = lines.raw(position).lower()
                # An escape, too, may write a header's name.
                if b"x-tfm-files" not in line and b"\\u00" not in line:
                    continue
                headers = lines.headers(position)
                for header, kind in HEADERS.items():
                    if count := _count(headers.get(header)):
                        positions.append(position)
                        kinds.append(kind)
                        amounts.append(count)
    if not positions:
        return None
    return Facts(lines.minutes[positions], pa.array(kinds), np.array(amounts, dtype=np.int64))


def _documents(lines: Lines, where: np.ndarray) -> list[tuple[str, np.ndarray]]:
    methods, paths, statuses = lines.methods.take(where), lines.paths.take(where), lines.statuses[where]
    is_list = pc.equal(paths, DOCUMENTS).to_numpy(zero_copy_only=False)
    is_below = pc.starts_with(paths, DOCUMENTS).to_numpy(zero_copy_only=False) & ~is_list
    is_post = pc.equal(methods, "POST").to_numpy(zero_copy_only=False)
    is_delete = pc.equal(methods, "DELETE").to_numpy(zero_copy_only=False)
    return [
        (CREATED, where[is_list & is_post & (statuses == 201)]),
        (DELETED, where[is_below & is_delete & (statuses == 204)]),
    ]


def _count(values: list[object] | None) -> int:
    """The count that a header gives; 0 where it is none: no integer, or several values."""
    if values is None or len(values) != 1:
        return 0
    value = values[0]
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    return int(text) if _COUNT.fullmatch(text) else 0


INPUTS = (Input("file_operation", "metric_log", file_operations),)
