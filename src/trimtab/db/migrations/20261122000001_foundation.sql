-- Roles, claims and the one way in which a table is protected.
--
-- The program connects as a login role that owns nothing and becomes `authenticated` in each transaction, with the
-- claims of the caller in `request.jwt.claims` (the shape Supabase uses). Policies read only those claims.

create schema trimtab;

do $$
begin
    if not exists (select from pg_roles where rolname = 'authenticated') then
        create role authenticated nologin noinherit;
    end if;
    -- Whoever may act as `system`: the program's own login roles. A JWT alone can never claim it.
    if not exists (select from pg_roles where rolname = 'trimtab_program') then
        create role trimtab_program nologin noinherit;
    end if;
end
$$;

grant usage on schema trimtab to authenticated;
grant usage on schema public to authenticated;

create function trimtab.claims() returns jsonb
    language sql stable set search_path = ''
    return coalesce(
        nullif(current_setting('request.jwt.claims', true), '')::jsonb #> '{app_metadata,trimtab}', '{}'::jsonb);

create function trimtab.current_workspace() returns uuid
    language sql stable set search_path = ''
    return (trimtab.claims() ->> 'workspace_id')::uuid;

create function trimtab.current_member() returns uuid
    language sql stable set search_path = ''
    return (trimtab.claims() ->> 'member_id')::uuid;

-- Whether the caller has at least the wanted role; `system` is none of these, it has its own test.
create function trimtab.has_role(wanted text) returns boolean
    language sql stable set search_path = ''
    return coalesce(
        array_position(array['viewer', 'operator', 'admin'], trimtab.claims() ->> 'role')
            >= array_position(array['viewer', 'operator', 'admin'], wanted),
        false);

create function trimtab.is_system() returns boolean
    language sql stable set search_path = ''
    return coalesce(trimtab.claims() ->> 'role' = 'system', false)
        and pg_has_role(session_user, 'trimtab_program', 'member');

-- Whether triggers may take a row of `target` as it is given: from the program itself, or from the table's owner, who
-- sets up and restores.
create function trimtab.is_trusted(target oid) returns boolean
    language sql stable set search_path = ''
    return trimtab.is_system()
        or (select pg_has_role(current_user, c.relowner, 'usage') from pg_catalog.pg_class c where c.oid = target);

-- Enables and forces row level security on a table and gives it one policy per command.
-- Each role argument is the least role that may run the command on rows inside `within`; 'system' leaves it to the
-- program's own work (which may always do it), 'none' to nobody.
create function trimtab.protect(
    target regclass,
    can_select text,
    can_insert text,
    can_update text,
    can_delete text,
    within text default 'workspace_id = (select trimtab.current_workspace())'
) returns void
    language plpgsql set search_path = ''
as $$
declare
    command text;
    least_role text;
    allowed text;
begin
    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    -- A Supabase project grants everything on each new table to these; what remains is granted below, by name.
    execute format('revoke all on table %s from public, authenticated', target);
    if exists (select from pg_catalog.pg_roles where rolname = 'anon') then
        execute format('revoke all on table %s from anon', target);
    end if;
    execute format('create policy owner_all on %s for all to %I using (true) with check (true)', target, current_user);
    foreach command in array array['select', 'insert', 'update', 'delete'] loop
        least_role := case command
            when 'select' then can_select when 'insert' then can_insert
            when 'update' then can_update else can_delete end;
        continue when least_role = 'none';
        allowed := '(select trimtab.is_system())';
        if least_role <> 'system' then
            allowed := format('%s or ((select trimtab.has_role(%L)) and %s)', allowed, least_role, within);
        end if;
        execute format('grant %s on table %s to authenticated', command, target);
        execute format(
            case command
                when 'insert' then 'create policy %I on %s for insert to authenticated with check (%s)'
                when 'update' then 'create policy %I on %s for update to authenticated using (%3$s) with check (%3$s)'
                when 'select' then 'create policy %I on %s for select to authenticated using (%s)'
                else 'create policy %I on %s for delete to authenticated using (%s)'
            end,
            'may_' || command, target, allowed);
    end loop;
end
$$;
revoke execute on function trimtab.protect from public;

create table trimtab.schema_migrations (
    version text primary key,
    name text not null,
    applied_at timestamptz not null default now()
);
select trimtab.protect('trimtab.schema_migrations', 'system', 'none', 'none', 'none');

-- Facts about this installation, such as the fingerprints of its sealing keys.
create table trimtab.instance (
    key text primary key,
    value jsonb not null
);
select trimtab.protect('trimtab.instance', 'system', 'system', 'system', 'system');

------------------------------------------------------------------------------------------------------------------
-- Day partitions. The application role can create no table: these functions do, for `system` alone.
------------------------------------------------------------------------------------------------------------------

create table trimtab.partitioned_tables (
    table_name text primary key,
    days_ahead int not null check (days_ahead >= 0),
    retention_days int not null check (retention_days > 0)
);
select trimtab.protect('trimtab.partitioned_tables', 'system', 'none', 'system', 'none');

create function trimtab.partition_name(parent text, day date) returns text
    language sql immutable set search_path = ''
    return parent || '_' || to_char(day, 'YYYYMMDD');

-- Makes the partition of one UTC day unless it is there. Answers whether it was made.
create function trimtab.ensure_partition(parent text, day date) returns boolean
    language plpgsql security definer set search_path = '' set lock_timeout = '2s'
as $$
declare
    partition text := trimtab.partition_name(parent, day);
    schema_part text := split_part(partition, '.', 1);
    table_part text := split_part(partition, '.', 2);
begin
    if not trimtab.is_system() and session_user <> current_user then
        raise insufficient_privilege using message = 'only the program itself makes partitions';
    end if;
    if not exists (select from trimtab.partitioned_tables where table_name = parent) then
        raise undefined_table using message = format('%s is not partitioned by day', parent);
    end if;
    perform pg_advisory_xact_lock(hashtextextended(partition, 0));
    if to_regclass(partition) is not null then
        return false;
    end if;
    execute format('create table %I.%I (like %s including defaults including constraints)',
                   schema_part, table_part, parent);
    -- Enabled with no policy for the application: the partition itself is closed, its parent is the door.
    perform trimtab.protect(partition::regclass, 'none', 'none', 'none', 'none');
    execute format('alter table %s attach partition %s for values from (%L) to (%L)', parent, partition,
                   day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    return true;
end
$$;

-- Drops the partitions of days that lie wholly before the retention. Answers how many.
create function trimtab.drop_expired_partitions(parent text, today date) returns int
    language plpgsql security definer set search_path = '' set lock_timeout = '2s'
as $$
declare
    keep_days int;
    partition text;
    dropped int := 0;
begin
    if not trimtab.is_system() and session_user <> current_user then
        raise insufficient_privilege using message = 'only the program itself drops partitions';
    end if;
    select retention_days into keep_days from trimtab.partitioned_tables where table_name = parent;
    if keep_days is null then
        raise undefined_table using message = format('%s is not partitioned by day', parent);
    end if;
    for partition in
        select inhrelid::regclass::text from pg_catalog.pg_inherits
        where inhparent = parent::regclass
            and right(inhrelid::regclass::text, 8) < to_char(today - keep_days, 'YYYYMMDD')
    loop
        execute format('drop table %s', partition);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

revoke execute on function trimtab.ensure_partition, trimtab.drop_expired_partitions from public;
grant execute on function trimtab.ensure_partition, trimtab.drop_expired_partitions to authenticated;
