"""Definitions checked and resolved: `catalog/kpis/` to a `Kpis`, or all that is wrong with them, by file and line.

What a source has is read where it is declared: of marts and raw tables in the dbt project, of tables of other databases
in their copies or, where asked for, in those databases themselves. A check that cannot be made is a warning, and the
KPI is left out until it can; everything else goes on.
"""
