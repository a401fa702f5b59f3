-- Workspaces, who acts in them, their keys and credentials, and the record of what was done.

create table trimtab.workspaces (
    id uuid primary key,
    name text not null,
    settings jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create unique index workspaces_name on trimtab.workspaces (lower(name));
select trimtab.protect('trimtab.workspaces', 'viewer', 'system', 'admin', 'system',
                       'id = (select trimtab.current_workspace())');

create table trimtab.members (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    name text not null,
    kind text not null default 'service' check (kind in ('person', 'service')),
    role text not null check (role in ('viewer', 'operator', 'admin')),
    created_at timestamptz not null default now(),
    deactivated_at timestamptz,
    unique (workspace_id, id)
);
create unique index members_name on trimtab.members (workspace_id, lower(name));
select trimtab.protect('trimtab.members', 'viewer', 'admin', 'admin', 'none');

create table trimtab.api_keys (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    member_id uuid not null,
    name text not null,
    key_hash text not null unique,
    key_hint text not null,
    role text not null check (role in ('viewer', 'operator', 'admin')),
    scopes text[] not null default '{control,inference}',
    created_at timestamptz not null default now(),
    created_by uuid,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- References name the workspace too: foreign keys look past row level security.
    foreign key (workspace_id, member_id) references trimtab.members (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create index api_keys_workspace on trimtab.api_keys (workspace_id, id);
comment on column trimtab.api_keys.key_hash is 'SHA-256 of the key in hex; the key itself is shown once and kept nowhere.';
select trimtab.protect('trimtab.api_keys', 'admin', 'admin', 'admin', 'none');

create table trimtab.provider_credentials (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    name text not null,
    provider text not null,
    sealed bytea not null,
    hint text not null,
    created_at timestamptz not null default now(),
    created_by uuid,
    unique (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create unique index provider_credentials_name on trimtab.provider_credentials (workspace_id, lower(name));
comment on column trimtab.provider_credentials.sealed is 'Encrypted with the installation''s secret key, never answered.';
select trimtab.protect('trimtab.provider_credentials', 'operator', 'operator', 'operator', 'admin');

-- Whether this names the acting member: what is written of who did something is checked by it.
create function trimtab.is_self(member uuid, member_name text) returns boolean
    language sql stable set search_path = ''
    return exists (
        select from trimtab.members m
        where m.workspace_id = trimtab.current_workspace() and m.id = trimtab.current_member()
            and m.id = member and m.name = member_name);

-- Append-only: no role has update or delete. An actor can only write their own name.
create table trimtab.audit_log (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    at timestamptz not null default now(),
    actor_id uuid,
    actor_name text not null,
    action text not null,
    object_type text not null,
    object_id text not null,
    details jsonb not null default '{}',
    request_id text
);
create index audit_log_workspace on trimtab.audit_log (workspace_id, id desc);
create index audit_log_object on trimtab.audit_log (workspace_id, object_type, object_id, id desc);
select trimtab.protect('trimtab.audit_log', 'operator', 'viewer', 'none', 'none',
                       'workspace_id = (select trimtab.current_workspace())');
drop policy may_insert on trimtab.audit_log;
create policy may_insert on trimtab.audit_log for insert to authenticated with check (
    (select trimtab.is_system())
    or ((select trimtab.has_role('viewer')) and workspace_id = (select trimtab.current_workspace())
        and trimtab.is_self(actor_id, actor_name)));

-- The answer given to a POST with an Idempotency-Key, sealed, so that a repeat gets the same one.
create table trimtab.idempotency_keys (
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    member_id uuid not null,
    key text not null,
    request_hash text not null,
    status int,
    answer bytea,
    created_at timestamptz not null default now(),
    primary key (workspace_id, member_id, key),
    foreign key (workspace_id, member_id) references trimtab.members (workspace_id, id)
);
create index idempotency_keys_age on trimtab.idempotency_keys (created_at);
select trimtab.protect('trimtab.idempotency_keys', 'viewer', 'viewer', 'viewer', 'viewer',
                       'workspace_id = (select trimtab.current_workspace()) and member_id = (select trimtab.current_member())');

-- Who holds a key: the one question that is asked before there are claims.
create function trimtab.authenticate(presented_hash text)
    returns table (key_id uuid, workspace_id uuid, member_id uuid, member_name text, role text, scopes text[],
        workspace_name text)
    language sql stable security definer set search_path = ''
    begin atomic
        select k.id, k.workspace_id, m.id, m.name,
            case when array_position(array['viewer', 'operator', 'admin'], k.role)
                    < array_position(array['viewer', 'operator', 'admin'], m.role) then k.role else m.role end,
            k.scopes, w.name
        from trimtab.api_keys k
            join trimtab.members m on m.workspace_id = k.workspace_id and m.id = k.member_id
            join trimtab.workspaces w on w.id = k.workspace_id
        where trimtab.is_system() and k.key_hash = presented_hash and k.revoked_at is null and m.deactivated_at is null
            and (k.expires_at is null or k.expires_at > now());
    end;
revoke execute on function trimtab.authenticate from public;
grant execute on function trimtab.authenticate to authenticated;
