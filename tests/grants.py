"""What a database grants, held against what `pipelines/warehouse/grants.py` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from pipelines.warehouse.grants import MEMBER_OF, MIGRATIONS, ROLES, SCHEMAS, Schema

WAY_OUT = "mend the migration or the model; if it is meant, say it in pipelines/warehouse/grants.py"
OTHER = "who runs the migrations"
EVERYBODY = "everybody"
AS_OWNER = ", with its rights"

Connection = psycopg.Connection[Any]
# What there is, by kind and name -> whose it is, and who may do what with it.
Objects = dict[tuple[str, str], str]

ATTRIBUTES = """
select rolname from pg_roles
where rolname = any(%s)
    and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
        or rolcanlogin and rolname <> 'analyst')
"""
MEMBERS = """
select member.rolname, role.rolname from pg_auth_members
inner join pg_roles as role on role.oid = roleid
inner join pg_roles as member on member.oid = member
where role.rolname = any(%(roles)s) and member.rolname = any(%(roles)s)
"""
# A row for each grant to others than the owner, and one for what nothing is granted of.
OBJECTS = """
with ours as (
    select oid as nsp, nspname, nspowner, nspacl from pg_namespace
    where nspname not like 'pg\\_%' and nspname <> 'information_schema'
),
objects (kind, name, owner, note, acl) as (
    select 'schema', nspname, nspowner, '', nspacl from ours where nspname <> 'public'
    union all
    select
        case relkind when 'S' then 'sequence' else 'table' end, nspname || '.' || relname, relowner, '', relacl
    from pg_class inner join ours on nsp = relnamespace where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select
        'function', nspname || '.' || proname, proowner, case when prosecdef then ', with its rights' else '' end,
        coalesce(proacl, acldefault('f', proowner))
    from pg_proc inner join ours on nsp = pronamespace
    union all
    select 'column', nspname || '.' || relname || '.' || attname, relowner, '', attacl
    from pg_attribute inner join pg_class on pg_class.oid = attrelid inner join ours on nsp = relnamespace
    where attacl is not null
    union all
    select 'type', nspname || '.' || typname, typowner, '', typacl
    from pg_type inner join ours on nsp = typnamespace where typacl is not null
    union all
    select
        case defaclobjtype when 'r' then 'later tables in' else 'later ' || defaclobjtype::text || ' in' end,
        coalesce(nspname, 'any schema'), defaclrole, '', defaclacl
    from pg_default_acl left join ours on nsp = defaclnamespace
)
select
    kind, name, pg_get_userbyid(owner)::text, note,
    case when grantee = 0 then 'everybody' else pg_get_userbyid(grantee) end, lower(privilege_type)
from objects left join lateral (select * from aclexplode(acl) where grantee <> owner) as granted on true
"""


def told(owner: str, granted: Mapping[Any, Iterable[str]], note: str = "") -> str:
    """Whose it is and who may do what, in the one way in which it is compared."""
    who = [f"{role} {', '.join(sorted(may))}" for role, may in sorted(granted.items()) if may]
    return "; ".join([f"of {owner if owner in ROLES else OTHER}{note}", *who])


def present(connection: Connection) -> Objects:
    """What the database says."""
    found: dict[tuple[str, str], tuple[str, str, dict[str, set[str]]]] = {}
    for kind, name, owner, note, grantee, privilege in connection.execute(OBJECTS):
        *_, granted = found.setdefault((kind, name), (owner, note, {}))
        if grantee is not None:
            granted.setdefault(grantee, set()).add(privilege)
    return {key: told(owner, granted, note) for key, (owner, note, granted) in found.items()}


def of_schema(name: str, schema: Schema, objects: Objects) -> Objects:
    """What is wanted of a schema, and of those objects that are in it."""
    wanted: Objects = {("schema", name): told(schema.owner, {role: ["usage"] for role in schema.users})}
    if schema.tables:
        wanted["later tables in", name] = told(schema.owner, schema.tables)
    wanted |= {("table", f"{name}.{one}"): "" for one in schema.besides}
    wanted |= {("function", f"{name}.{one}"): "" for one in schema.foreign}
    for kind, full in [*objects, *wanted]:
        within, _, one = full.partition(".")
        if within != name or not one:
            continue
        if kind == "table":
            more = schema.besides.get(one, {})
            each = {
                role: {*schema.tables.get(role, ()), *more.get(role, ())}
                for role in {**schema.tables, **more}
            }
            wanted[kind, full] = told(schema.owner, each)
        elif kind == "sequence":
            wanted[kind, full] = told(schema.owner, {})
        elif kind == "function":
            owner = OTHER if one in schema.foreign else schema.owner
            note = AS_OWNER if one in schema.definers else ""
            wanted[kind, full] = told(owner, {EVERYBODY: ["execute"]}, note)
    return wanted


def differences(connection: Connection) -> list[str]:
    """What is not as it should be, a line each with the way out."""
    found = present(connection)
    wanted: Objects = {("table", "public.alembic_version"): told(OTHER, MIGRATIONS)}
    for name, schema in SCHEMAS.items():
        wanted |= of_schema(name, schema, found)
    for (role,) in connection.execute(ATTRIBUTES, [list(ROLES)]):
        found["role", role] = "may do more than it is granted"
    missing = set(ROLES) - {role for (role,) in connection.execute("select rolname from pg_roles")}
    wanted |= {("role", role): "is there" for role in missing}
    members = connection.execute(MEMBERS, {"roles": list(ROLES)}).fetchall()
    found |= {("member", f"{member} of {role}"): "is one" for member, role in members}
    wanted |= {("member", f"{one} of {role}"): "is one" for one, its in MEMBER_OF.items() for role in its}
    return [
        f"{' '.join(key)}: found {found.get(key, 'none')!r}, wanted {wanted.get(key, 'none')!r}; {WAY_OUT}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    ]
