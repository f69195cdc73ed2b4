"""The processes of `duemark up`: which they are, who keeps them up, who ends them, and whether all is ready.

It stands on `orchestration`, which does not know of it.
"""
