"""A bank that never was: its catalog, the job statuses that its schedulers send, and the truth about them."""

from pipelines.simulator.simulate import FORMATS, Split, Summary, simulate

__all__ = ["FORMATS", "Split", "Summary", "simulate"]
