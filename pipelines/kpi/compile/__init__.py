"""From definitions to models: what each of them is to hold, said as data, and the plan that tells the engine of them.

A **state** model has one row per base bucket and members: what its source's rows of that bucket add up to. All KPIs
over a source, by the same time column and dimensions, share one; K definitions are one scan. A **values** model belongs
to a group of KPIs that read the same states by the same dimensions in the same zone: it stacks the states of the
periods in `kpi_period`, aggregates them for every subset of the dimensions, and computes each KPI's formula over the
aggregates.

The SQL stands in `dbt_project/macros/kpi/`; here is decided what it is made of. Only the conditions and expressions of
definitions are SQL here, for they are their author's, checked and written anew.
"""
