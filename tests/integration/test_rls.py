"""Row level security, tried for real: every table, every role, every verb; and the ways around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, LiteralString, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.postgres import PostgresServer

from trimtab.db.database import SET_SCOPE, SYSTEM, Role, Scope
from trimtab.db.embedded import Urls

MATRIX: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "rls_matrix.json").read_text())
"""Table -> role -> what it may do to rows of its own workspace (select, insert, update, delete by initial).

`foreign` is what the admin of another workspace may do, nothing where it is left out. `row` holds values for a sample
row where a column's type is not enough to make one up; `$unique`, `$member` and the like stand for what they say.
"""
VERBS = "siud"
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin", "system")

TABLES = """
select c.oid, n.nspname || '.' || c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relispartition
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
order by 2
"""
COLUMNS = """
select attname, format_type(atttypid, null), attnotnull and not atthasdef and attidentity = '', attidentity <> ''
from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
"""
REFERENCES = """
select (confrelid::regclass)::oid, (select nspname || '.' || relname from pg_class c join pg_namespace n
        on n.oid = c.relnamespace where c.oid = confrelid),
    (select array_agg(attname order by ord) from unnest(conkey) with ordinality k(num, ord)
        join pg_attribute on attrelid = conrelid and attnum = num),
    (select array_agg(attname order by ord) from unnest(confkey) with ordinality k(num, ord)
        join pg_attribute on attrelid = confrelid and attnum = num)
from pg_constraint where contype = 'f' and conrelid = %s::regclass
"""

SAMPLES: dict[str, Any] = {
    "text": "x",
    "integer": 1,
    "real": 1,
    "double precision": 1,
    "numeric": 1,
    "boolean": True,
    "bytea": b"",
    "jsonb": Jsonb({}),
    "text[]": [],
}


def table_name(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


@dataclass(frozen=True, slots=True)
class Party:
    """A workspace, its one member, and a row of every table."""

    workspace: UUID
    member: UUID
    member_name: str
    rows: dict[str, dict[str, Any]]

    def scope(self, role: Role) -> Scope:
        return SYSTEM if role == "system" else Scope(role, self.workspace, self.member)


@dataclass(frozen=True, slots=True)
class World:
    """Two workspaces in one database."""

    urls: Urls
    ours: Party
    theirs: Party


def seed(owner: psycopg.Connection, name: str) -> Party:
    party = Party(uuid4(), uuid4(), f"member of {name}", {})
    tables = [row[1] for row in owner.execute(TABLES) if not row[4]]
    while missing := [table for table in tables if table not in party.rows]:
        before = len(party.rows)
        for table in missing:
            seed_row(owner, table, party)
        assert len(party.rows) > before, f"cannot make rows for {missing}"
    return party


def seed_row(owner: psycopg.Connection, table: str, party: Party) -> None:
    """Insert a sample row unless rows that it refers to are still missing."""
    special = {
        "$unique": uuid4().hex,
        "$workspace": party.workspace,
        "$member": party.member,
        "$member_name": party.member_name,
    }
    columns = owner.execute(COLUMNS, (table,)).fetchall()
    if table == "trimtab.routing_head":  # it has the only row that it can have
        party.rows[table] = {"only_row": True, "revision": 1}
        return
    given = {key: special.get(str(value), value) for key, value in MATRIX.get(table, {}).get("row", {}).items()}
    required = {column for column, _, is_required, _ in columns if is_required}
    values: dict[str, Any] = {}
    for column, kind, is_required, _ in columns:
        if column == "workspace_id" and is_required:
            values[column] = party.workspace
        elif is_required and column not in given:
            if kind == "uuid":
                values[column] = uuid4()
            elif kind == "timestamp with time zone":
                values[column] = datetime.now(UTC)
            elif kind == "bigint":
                values[column] = uuid4().int >> 66  # may have to be unique
            elif kind == "date":
                values[column] = date.today()
            else:
                values[column] = SAMPLES[kind]
    if table == "trimtab.workspaces":
        values["id"] = party.workspace
    if table == "trimtab.members":
        values["id"], given["name"] = party.member, party.member_name
    for _, target, local, remote in owner.execute(REFERENCES, (table,)).fetchall():
        wanted = [(here, there) for here, there in zip(local, remote, strict=True) if here in required | set(given)]
        if not wanted or (len(wanted) < len(local)):
            continue
        if target not in party.rows:
            return
        values.update({here: party.rows[target][there] for here, there in wanted})
    values.update(given)
    statement = sql.SQL("insert into {} ({}) values ({}) returning *").format(
        table_name(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join([sql.Placeholder()] * len(values)),
    )
    cursor = owner.execute(statement, list(values.values()))
    row = cursor.fetchone()
    assert row is not None and cursor.description is not None
    party.rows[table] = dict(zip([column.name for column in cursor.description], row, strict=True))


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[World]:
    with postgres_server.clone() as urls:
        with psycopg.connect(urls.owner) as owner:
            ours, theirs = seed(owner, "ours"), seed(owner, "theirs")
        yield World(urls, ours, theirs)


@pytest.fixture(scope="module")
def owner(world: World) -> Iterator[psycopg.Connection]:
    with psycopg.connect(world.urls.owner, autocommit=True) as connection:
        yield connection


@pytest.fixture
def app(world: World) -> Iterator[psycopg.Connection]:
    with psycopg.connect(world.urls.app, autocommit=True) as connection:
        yield connection


class AttemptError(Exception):
    """Ends an attempt, so that nothing of it stays."""


def become(connection: psycopg.Connection, scope: Scope) -> None:
    connection.execute(SET_SCOPE, (scope.claims(),))


def rows_of(table: str, row: dict[str, Any]) -> sql.Composable:
    """The condition that is true for the rows of the workspace that `row` is of."""
    column = "id" if table == "trimtab.workspaces" else "workspace_id"
    return sql.SQL("{} = {}").format(sql.Identifier(column), row[column]) if column in row else sql.SQL("true")


def verbs_that_work(owner: psycopg.Connection, table: str, party: Party, scope: Scope) -> str:
    """What `scope` can do, for real, to the rows of `party`; nothing of it stays."""
    row = party.rows[table]
    columns = [(name, identity) for name, _, _, identity in owner.execute(COLUMNS, (table,))]
    return "".join(verb for verb in VERBS if works(owner, verb, table, row, columns, scope))


def works(
    owner: psycopg.Connection,
    verb: str,
    table: str,
    row: dict[str, Any],
    columns: list[tuple[str, bool]],
    scope: Scope,
) -> bool:
    target, condition = table_name(table), rows_of(table, row)
    own = [name for name, identity in columns if not identity]
    done = False
    try:
        with owner.transaction():
            if verb == "i":
                # Room for the very same row, made without triggers so that nothing else goes with it.
                owner.execute("set local session_replication_role = replica")
                owner.execute(sql.SQL("delete from {} where {}").format(target, condition))
                owner.execute("set local session_replication_role = origin")
            owner.execute("set local session authorization trimtab_app")
            become(owner, scope)
            if verb == "s":
                cursor = owner.execute(sql.SQL("select 1 from {} where {}").format(target, condition))
            elif verb == "i":
                statement = sql.SQL("insert into {} ({}) values ({})").format(
                    target,
                    sql.SQL(", ").join(map(sql.Identifier, own)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(own)),
                )
                values = [Jsonb(row[name]) if isinstance(row[name], dict) else row[name] for name in own if name in row]
                cursor = owner.execute(statement, values)
            elif verb == "u":
                column = sql.Identifier(own[-1])
                cursor = owner.execute(
                    sql.SQL("update {} set {} = {} where {}").format(target, column, column, condition)
                )
            else:
                cursor = owner.execute(sql.SQL("delete from {} where {}").format(target, condition))
            done = cursor.rowcount > 0
            raise AttemptError
    except AttemptError:
        return done
    except psycopg.errors.ForeignKeyViolation:
        return True  # the policies let it through
    except psycopg.errors.InsufficientPrivilege:
        return False


def test_every_table_of_the_database_is_in_the_matrix(owner: psycopg.Connection) -> None:
    tables = {row[1] for row in owner.execute(TABLES) if not row[4]}
    assert tables == set(MATRIX), "add new tables to rls_matrix.json: who may do what to them"


def test_every_table_and_partition_is_protected(owner: psycopg.Connection) -> None:
    found = owner.execute(TABLES).fetchall()
    assert sum(is_partition for *_, is_partition in found) > 5
    for oid, name, enabled, forced, is_partition in found:
        assert enabled and forced, f"{name}: row level security must be enabled and forced"
        policies = owner.execute(
            "select polcmd, polroles::regrole[]::text[], relowner::regrole::text "
            "from pg_policy join pg_class c on c.oid = polrelid where polrelid = %s and polname = 'owner_all'",
            (oid,),
        ).fetchall()
        assert [(command, roles) for command, roles, _ in policies] == [("*", [policies[0][2]])], name
        allowed = {
            privilege
            for (privilege,) in owner.execute(
                "select p from unnest(array['select','insert','update','delete','truncate','references','trigger']) p "
                "where has_table_privilege('authenticated', %s::oid, p)",
                (oid,),
            )
        }
        if is_partition:
            assert not allowed, f"{name}: partitions are reached through their parent only"
        assert not allowed & {"truncate", "references", "trigger"}, name
        to_all = owner.execute(
            "select 1 from pg_class where oid = %s and exists (select from aclexplode(relacl) where grantee = 0)",
            (oid,),
        ).fetchone()
        assert to_all is None, f"{name}: granted to everybody"


def test_views_run_as_their_caller(owner: psycopg.Connection) -> None:
    unsafe = owner.execute(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = relnamespace "
        "where relkind in ('v', 'm') and nspname in ('public', 'trimtab') "
        "and not coalesce('security_invoker=true' = any (reloptions), false)"
    ).fetchall()
    assert unsafe == []


def test_functions_that_run_as_owner_are_closed_and_see_no_search_path(owner: psycopg.Connection) -> None:
    functions = owner.execute(
        "select p.oid::regprocedure::text, proconfig, proacl is null or exists (select from aclexplode(proacl) "
        "where grantee = 0 and privilege_type = 'EXECUTE') from pg_proc p join pg_namespace n on n.oid = pronamespace "
        "where prosecdef and nspname in ('public', 'trimtab')"
    ).fetchall()
    assert len(functions) >= 4
    for name, config, public in functions:
        assert 'search_path=""' in (config or []), name
        assert not public, f"{name} can be run by everybody"


@pytest.mark.parametrize("table", sorted(MATRIX))
def test_verbs(owner: psycopg.Connection, world: World, table: str) -> None:
    expected = MATRIX[table]
    for role in ROLES:
        assert verbs_that_work(owner, table, world.ours, world.ours.scope(role)) == expected[role], role
    foreign = verbs_that_work(owner, table, world.ours, world.theirs.scope("admin"))
    assert foreign == expected.get("foreign", ""), "the admin of another workspace"


@pytest.mark.parametrize("table", sorted(MATRIX))
def test_without_claims_there_is_nothing(app: psycopg.Connection, table: str) -> None:
    for claims in (None, "", "{}", '{"app_metadata": {"trimtab": {"role": "admin"}}}'):
        with app.transaction():
            app.execute("set local role authenticated")
            if claims is not None:
                app.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            shared = MATRIX[table].get("foreign") == "s" and claims is not None and "admin" in claims
            try:
                count = app.execute(sql.SQL("select 1 from {}").format(table_name(table))).rowcount
            except psycopg.errors.InsufficientPrivilege:
                continue
            assert count == 0 or shared


def test_user_metadata_is_no_authority(world: World, app: psycopg.Connection) -> None:
    claims = {"user_metadata": {"trimtab": {"role": "admin", "workspace_id": str(world.ours.workspace)}}}
    with app.transaction():
        app.execute("set local role authenticated")
        app.execute("select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
        assert app.execute("select 1 from public.ai_models").rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        "set role trimtab_owner",
        "set session authorization trimtab_owner",
        "alter table public.ai_models disable row level security",
        "alter table public.ai_models no force row level security",
        "create policy mine on public.ai_models for all to public using (true)",
        "drop policy may_select on public.ai_models",
        "create table trimtab.mine (id int)",
        "create table public.mine (id int)",
        "create function public.mine() returns int language sql return 1",
        "truncate public.ai_models",
        "select trimtab.protect('public.ai_models', 'viewer', 'viewer', 'viewer', 'viewer')",
        "grant authenticated to trimtab_owner",
        "copy public.ai_models from stdin",
        "update trimtab.routing_head set revision = 0",
    ],
)
def test_the_application_cannot_get_around_it(
    world: World, owner: psycopg.Connection, statement: LiteralString
) -> None:
    found = owner.execute("select current_user").fetchone()
    assert found is not None
    for scope in (SYSTEM, world.ours.scope("admin"), None):
        with psycopg.connect(world.urls.app, autocommit=True) as app, app.transaction(force_rollback=True):
            if scope is not None:
                become(app, scope)
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
                app.execute(cast(LiteralString, statement.replace("trimtab_owner", found[0])))


def test_row_security_cannot_be_switched_off(world: World, app: psycopg.Connection) -> None:
    with app.transaction():
        become(app, world.ours.scope("viewer"))
        app.execute("set local row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("select 1 from public.ai_models")


def test_only_the_program_is_system(world: World, owner: psycopg.Connection) -> None:
    owner.execute("create role outsider nologin in role authenticated")
    try:
        with owner.transaction():
            owner.execute("set local session authorization outsider")
            become(owner, SYSTEM)
            assert owner.execute("select 1 from public.ai_models").rowcount == 0
            assert owner.execute("select * from trimtab.authenticate('x')").rowcount == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute("select trimtab.ensure_partition('trimtab.events', '2030-01-01')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute("select trimtab.next_revision(%s, 'x')", (world.ours.workspace,))
    finally:
        owner.execute("drop role outsider")


def test_partitions_are_made_and_dropped_by_the_program_alone(world: World, app: psycopg.Connection) -> None:
    for role in ("viewer", "operator", "admin"):
        for statement in (
            "select trimtab.ensure_partition('trimtab.events', '2031-01-01')",
            "select trimtab.drop_expired_partitions('trimtab.events', '2031-01-01')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                become(app, world.ours.scope(cast(Role, role)))
                app.execute(cast(LiteralString, statement))
    with app.transaction(force_rollback=True):
        become(app, SYSTEM)
        assert app.execute("select trimtab.ensure_partition('trimtab.events', '2031-01-01')").fetchone() == (True,)
        assert app.execute("select trimtab.ensure_partition('trimtab.events', '2031-01-01')").fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute("select 1 from trimtab.events_20310101")
        with pytest.raises(psycopg.errors.UndefinedTable), app.transaction():
            app.execute("select trimtab.ensure_partition('trimtab.members', '2031-01-01')")
        dropped = app.execute("select trimtab.drop_expired_partitions('trimtab.events', '2031-06-01')").fetchone()
        assert dropped is not None and dropped[0] >= 1


def test_no_partition_can_be_reached_directly(world: World, owner: psycopg.Connection, app: psycopg.Connection) -> None:
    partitions = [row[1] for row in owner.execute(TABLES) if row[4]]
    for partition in partitions:
        for scope in (SYSTEM, world.ours.scope("admin")):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                become(app, scope)
                app.execute(sql.SQL("select 1 from {}").format(table_name(partition)))


def test_references_cannot_lead_to_another_workspace(world: World, app: psycopg.Connection) -> None:
    """Foreign keys are checked past row level security, so they name the workspace."""
    ours, theirs = world.ours, world.theirs
    config = {"id": uuid4(), "workspace_id": ours.workspace}
    with pytest.raises(psycopg.errors.ForeignKeyViolation), app.transaction():
        become(app, ours.scope("operator"))
        app.execute(
            "insert into public.ai_model_lifecycle (id, workspace_id, model_id, version_tag, credential_id) "
            "values (%(id)s, %(workspace_id)s, %(model)s, 'v9', %(credential)s)",
            {
                **config,
                "model": ours.rows["public.ai_models"]["id"],
                "credential": theirs.rows["trimtab.provider_credentials"]["id"],
            },
        )
    with pytest.raises(psycopg.errors.ForeignKeyViolation), app.transaction():
        become(app, ours.scope("operator"))
        app.execute(
            "insert into trimtab.replicas (id, workspace_id, deployment_id, ordinal, kind) "
            "values (%(id)s, %(workspace_id)s, %(deployment)s, 7, 'external')",
            {**config, "deployment": theirs.rows["public.ai_model_deployments"]["id"]},
        )


def test_references_of_all_tables_name_the_workspace(owner: psycopg.Connection) -> None:
    """A reference between two tables of workspaces carries the workspace."""
    loose = owner.execute(
        """
        select conrelid::regclass::text, pg_get_constraintdef(c.oid) from pg_constraint c
        where contype = 'f' and confrelid <> 'trimtab.workspaces'::regclass and conparentid = 0
            and exists (select from pg_attribute where attrelid = confrelid and attname = 'workspace_id')
            and not exists (select from pg_attribute a where attrelid = conrelid and attnum = any (conkey)
                and attname = 'workspace_id')
        """
    ).fetchall()
    assert loose == []


def test_routing_entries_tell_the_truth_about_their_workspace(world: World, app: psycopg.Connection) -> None:
    insert = "insert into trimtab.routing_entries (kind, key, workspace_id, revision, body) values (%s, %s, %s, 1, %s)"
    ours, theirs = str(world.ours.workspace), str(world.theirs.workspace)
    for role, kind, key, body in (
        ("admin", "api_key", "k", {"workspace_id": theirs}),
        ("admin", "api_key", "k", {}),
        ("system", "deployment", "k", {"workspace_id": theirs}),
        ("system", "route", f"{theirs}/bot", {"workspace_id": ours}),
    ):
        with pytest.raises(psycopg.errors.CheckViolation), app.transaction():
            become(app, world.ours.scope(cast(Role, role)))
            app.execute(insert, (kind, key, ours, Jsonb(body)))


def test_people_write_no_routes(world: World, app: psycopg.Connection) -> None:
    """Routes and deployments reach the gateways by way of the controller, keys by way of admins."""
    ours = str(world.ours.workspace)
    insert = "insert into trimtab.routing_entries (kind, key, workspace_id, revision, body) values (%s, %s, %s, 1, %s)"
    update = "update trimtab.routing_entries set revision = 9 where key = %s"
    for kind, key, allowed in (
        ("api_key", "k", {"admin", "system"}),
        ("deployment", "k", {"system"}),
        ("route", f"{ours}/bot", {"system"}),
    ):
        row = (kind, key, ours, Jsonb({"workspace_id": ours}))
        for role in ROLES:
            with app.transaction(force_rollback=True):
                become(app, SYSTEM)
                app.execute(insert, row)
                become(app, world.ours.scope(role))
                assert app.execute(update, (key,)).rowcount == (role in allowed)
            if role not in allowed:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                    become(app, world.ours.scope(role))
                    app.execute(insert, row)
    for role in ("viewer", "operator"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            become(app, world.ours.scope(cast(Role, role)))
            app.execute("select trimtab.next_revision(%s, 'x')", (ours,))


def test_a_deployment_is_moved_by_the_controller_alone(world: World, app: psycopg.Connection) -> None:
    ours = world.ours
    one = uuid4()
    with app.transaction(force_rollback=True):
        become(app, ours.scope("operator"))
        app.execute(
            "insert into public.ai_model_deployments (id, workspace_id, model_id, lifecycle_id, deployment_name, "
            "environment, deployment_type, status, rollout_phase, traffic_percentage, cutover_revision, ended_at, "
            "deadline_at) values (%s, %s, %s, %s, 'd', 'production', 'direct', 'healthy', 'succeeded', 100, 1, now(), "
            "now())",
            (
                one,
                ours.workspace,
                ours.rows["public.ai_models"]["id"],
                ours.rows["public.ai_model_lifecycle"]["id"],
            ),
        )
        begun = app.execute(
            "select status, rollout_phase, traffic_percentage::int, cutover_revision, ended_at, created_by "
            "from public.ai_model_deployments where id = %s",
            (one,),
        ).fetchone()
        assert begun == ("deploying", "pending", 0, None, None, ours.member)
        refused = (
            "status = 'healthy', rollout_phase = 'succeeded'",
            "rollout_phase = 'promoting'",
            "rollout_phase = 'progressing'",
            "traffic_percentage = 100",
            "cutover_revision = 1",
            "environment = 'staging'",
            "revived_for = id",
            "previous_deployment_id = id",
            "created_by = null",
        )
        for role in ("operator", "admin"):
            for change in refused:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                    become(app, ours.scope(cast(Role, role)))
                    update(app, one, change)
        # The way of a deployment: what the controller does, and what people may do in between.
        for role, change in (
            ("system", "status = 'healthy', rollout_phase = 'succeeded', traffic_percentage = 100"),
            ("operator", "rollout_phase = 'promoting', target_traffic_percentage = 50, cutover_revision = null"),
            ("system", "rollout_phase = 'succeeded', traffic_percentage = 50"),
            ("operator", "rollout_phase = 'aborting'"),
            ("operator", "rollout_phase = 'succeeded'"),
            ("operator", "ending_status = 'retired', draining_since = now()"),
            ("system", "status = 'rolled_back', rollout_phase = 'aborted', ended_at = now()"),
            ("operator", "status = 'deploying', rollout_phase = 'pending', traffic_percentage = 0, ended_at = null"),
            ("operator", "status = 'rolled_back', rollout_phase = 'aborted', ended_at = now()"),
        ):
            become(app, ours.scope(cast(Role, role)))
            update(app, one, change)


def update(app: psycopg.Connection, deployment: UUID, change: str) -> None:
    statement = f"update public.ai_model_deployments set {change} where id = %s"
    assert app.execute(cast(LiteralString, statement), (deployment,)).rowcount == 1


def test_what_was_deployed_cannot_be_deleted(world: World, app: psycopg.Connection) -> None:
    for table in ("public.ai_models", "public.ai_model_lifecycle"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation), app.transaction():
            become(app, world.ours.scope("admin"))
            app.execute(
                sql.SQL("delete from {} where id = %s").format(table_name(table)), (world.ours.rows[table]["id"],)
            )


def test_the_entries_of_a_model_have_an_index(world: World, owner: psycopg.Connection) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("set local enable_seqscan = off")
        plan = owner.execute(
            "explain (costs off) select 1 from trimtab.routing_entries where kind in ('route', 'deployment') "
            "and body is not null and body ->> 'model_id' = 'x'"
        ).fetchall()
    assert "routing_entries_model" in str(plan)


def test_nobody_tells_of_a_version_in_another_name(world: World, app: psycopg.Connection) -> None:
    ours = world.ours
    step = (
        "insert into trimtab.lifecycle_events (id, workspace_id, lifecycle_id, actor_id, actor_name, event) "
        "values (%s, %s, %s, %s, %s, 'approved')"
    )
    event = (
        "insert into trimtab.events (id, workspace_id, at, name, subject_type, subject_id, data) "
        "values (%s, %s, now(), 'deployment.created', 'deployment', %s, %s)"
    )
    lifecycle = ours.rows["public.ai_model_lifecycle"]["id"]
    for member, actor, name in (
        (ours.member, uuid4(), ours.member_name),
        (ours.member, ours.member, "somebody"),
        (ours.member, None, "trimtab"),
        (None, None, "trimtab"),
        (None, ours.member, ours.member_name),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            become(app, Scope("admin", ours.workspace, member))
            app.execute(step, (uuid4(), ours.workspace, lifecycle, actor, name))
        if (member, name) != (ours.member, ours.member_name):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                become(app, Scope("admin", ours.workspace, member))
                app.execute(event, (uuid4(), ours.workspace, uuid4(), Jsonb({"by": name})))
    with app.transaction(force_rollback=True):
        become(app, ours.scope("operator"))
        app.execute(event, (uuid4(), ours.workspace, uuid4(), Jsonb({"by": ours.member_name})))


def test_nobody_decides_without_being_a_member(world: World, app: psycopg.Connection) -> None:
    """Claims without a member would be told apart from no author, so four eyes would be two."""
    ours = world.ours
    insert = (
        "insert into public.ai_model_lifecycle (id, workspace_id, model_id, version_tag, approval_status, "
        "lifecycle_stage, decided_by_name) values (%s, %s, %s, 'v3', 'approved', 'production', 'somebody')"
    )
    values = (version := uuid4(), ours.workspace, ours.rows["public.ai_models"]["id"])
    for role in ("operator", "admin"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            become(app, Scope(cast(Role, role), ours.workspace))
            app.execute(insert, values)
    with app.transaction(force_rollback=True):
        become(app, ours.scope("operator"))
        app.execute(insert, values)
        state = "select approval_status, lifecycle_stage, decided_by, decided_by_name from public.ai_model_lifecycle"
        assert app.execute(f"{state} where id = %s", (version,)).fetchone() == ("pending", "development", None, None)
        for change in (
            "approval_status = 'approved'",
            "approval_status = 'rejected'",
            "decided_by_name = 'somebody'",
            "approval_conditions = '{}'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                become(app, Scope("admin", ours.workspace))
                app.execute(
                    cast(LiteralString, f"update public.ai_model_lifecycle set {change} where id = %s"), (version,)
                )
        become(app, ours.scope("operator"))
        app.execute(
            "update public.ai_model_lifecycle set approval_status = 'approved', decided_by_name = 'somebody' "
            "where id = %s",
            (version,),
        )
        decided = app.execute(f"{state} where id = %s", (version,)).fetchone()
        assert decided == ("approved", "development", ours.member, ours.member_name)


def test_nobody_writes_the_audit_log_in_another_name(world: World, app: psycopg.Connection) -> None:
    insert = (
        "insert into trimtab.audit_log (id, workspace_id, actor_id, actor_name, action, object_type, object_id) "
        "values (%s, %s, %s, %s, 'a', 'b', 'c')"
    )
    ours = world.ours
    for actor, name in ((uuid4(), ours.member_name), (ours.member, "somebody"), (None, "trimtab")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            become(app, ours.scope("admin"))
            app.execute(insert, (uuid4(), ours.workspace, actor, name))


def test_a_version_keeps_true_whoever_writes_it(world: World, app: psycopg.Connection) -> None:
    """The database itself holds what the API promises, for those who reach the tables without it."""
    ours = world.ours
    version = uuid4()
    with app.transaction(force_rollback=True):
        become(app, ours.scope("operator"))
        app.execute(
            "insert into public.ai_model_lifecycle "
            "(id, workspace_id, model_id, version_tag, approval_status, frozen_at, created_by) "
            "values (%s, %s, %s, 'v2', 'approved', now(), null)",
            (version, ours.workspace, ours.rows["public.ai_models"]["id"]),
        )
        begun = app.execute(
            "select approval_status, frozen_at, created_by from public.ai_model_lifecycle where id = %s", (version,)
        ).fetchone()
        assert begun == ("pending", None, ours.member)
        become(app, ours.scope("admin"))
        app.execute("update trimtab.workspaces set settings = '{\"four_eyes\": true}' where id = %s", (ours.workspace,))
        approve = "update public.ai_model_lifecycle set approval_status = 'approved' where id = %s"
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute(approve, (version,))
        app.execute("update trimtab.workspaces set settings = '{}' where id = %s", (ours.workspace,))
        app.execute(approve, (version,))
        app.execute(
            "update public.ai_model_lifecycle set approval_status = 'rejected', frozen_at = null where id = %s",
            (version,),
        )
        with pytest.raises(psycopg.errors.ObjectInUse), app.transaction():
            app.execute(
                'update public.ai_model_lifecycle set deployment_config = \'{"endpoint": "x"}\' where id = %s',
                (version,),
            )


def test_policies_ask_once_per_statement(world: World, owner: psycopg.Connection) -> None:
    """Claims are read in init plans, not per row."""
    with owner.transaction(force_rollback=True):
        owner.execute("set local session authorization trimtab_app")
        become(owner, world.ours.scope("viewer"))
        plan = "\n".join(
            row[0]
            for row in owner.execute(
                "explain (costs off) select * from public.ai_models where workspace_id = %s", (world.ours.workspace,)
            )
        )
    assert "InitPlan" in plan
    filters = [line for line in plan.splitlines() if "Filter" in line]
    assert filters and not any("claims" in line or "has_role" in line or "is_system" in line for line in filters), plan
