-- Deployments, the replicas behind them, and the routing that gateways follow.

create table public.ai_model_deployments (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    model_id uuid not null,
    lifecycle_id uuid not null,
    deployment_name text not null,
    environment text not null check (environment in ('development', 'staging', 'production')),
    deployment_type text not null check (deployment_type in ('direct', 'blue-green', 'canary', 'rolling')),
    status text not null default 'deploying' check (status in
        ('deploying', 'healthy', 'unhealthy', 'failed', 'rolled_back', 'retired')),
    status_reason text not null default '',
    rollout_phase text not null default 'pending' check (rollout_phase in
        ('pending', 'progressing', 'paused', 'baking', 'promoting', 'aborting', 'succeeded', 'aborted', 'superseded')),
    endpoint_url text,
    traffic_percentage numeric(5, 2) not null default 0 check (traffic_percentage between 0 and 100),
    target_traffic_percentage numeric(5, 2) not null default 100 check (target_traffic_percentage between 0 and 100),
    replicas int not null default 1 check (replicas between 0 and 1000),
    config jsonb not null default '{}',
    previous_deployment_id uuid,
    revived_for uuid,
    cutover_revision bigint,
    ending_status text check (ending_status in ('rolled_back', 'retired')),
    draining_since timestamptz,
    deadline_at timestamptz not null,
    started_at timestamptz not null default now(),
    created_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    ended_at timestamptz,
    version int not null default 1,
    unique (workspace_id, id),
    -- References name the workspace too: foreign keys look past row level security. What was once deployed stays: the
    -- request log leads here.
    foreign key (workspace_id, model_id) references public.ai_models (workspace_id, id),
    foreign key (workspace_id, lifecycle_id) references public.ai_model_lifecycle (workspace_id, id),
    foreign key (workspace_id, previous_deployment_id) references public.ai_model_deployments (workspace_id, id),
    foreign key (workspace_id, revived_for) references public.ai_model_deployments (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create index ai_model_deployments_page on public.ai_model_deployments (workspace_id, id);
create index ai_model_deployments_route on public.ai_model_deployments (workspace_id, model_id, environment, id);
create index ai_model_deployments_live on public.ai_model_deployments (status) where ended_at is null;
comment on column public.ai_model_deployments.previous_deployment_id is
    'Which one had the share before: where a rollback leads.';
comment on column public.ai_model_deployments.revived_for is
    'The deployment being rolled back, for whose sake this ended one was started again; null once it has the share.';
comment on column public.ai_model_deployments.cutover_revision is
    'The routing revision of the last change of its share; null while such a change is wanted but not published.';
comment on column public.ai_model_deployments.started_at is
    'When its present attempt began: of two rollouts on one route the one begun later goes on.';
comment on column public.ai_model_deployments.ending_status is
    'Set while it drains: what its status becomes once no gateway uses it any more.';
select trimtab.protect('public.ai_model_deployments', 'viewer', 'operator', 'operator', 'none');

-- What people do with a deployment, whichever way they reach the table: begin one, begin it anew, change its share,
-- roll back, abort and retire. What it does on its way from there is written by the deployments controller alone.
create function trimtab.keep_deployment_true() returns trigger
    language plpgsql set search_path = ''
as $$
declare
    begins boolean;
begin
    if trimtab.is_trusted(tg_relid) then
        return new;
    end if;
    if tg_op = 'INSERT' then
        new.status := 'deploying';
        new.rollout_phase := 'pending';
        new.traffic_percentage := 0;
        new.previous_deployment_id := null;
        new.revived_for := null;
        new.cutover_revision := null;
        new.ending_status := null;
        new.draining_since := null;
        new.ended_at := null;
        new.created_by := trimtab.current_member();
        return new;
    end if;
    if (new.id, new.workspace_id, new.model_id, new.lifecycle_id, new.environment, new.deployment_type,
        new.previous_deployment_id, new.created_by, new.created_at) is distinct from (
        old.id, old.workspace_id, old.model_id, old.lifecycle_id, old.environment, old.deployment_type,
        old.previous_deployment_id, old.created_by, old.created_at)
    then
        raise insufficient_privilege using message = 'what a deployment is of cannot be changed; make another one';
    end if;
    begins := old.ended_at is not null and new.status = 'deploying' and new.rollout_phase = 'pending';
    if not (
        (new.status = old.status or begins
            or (old.status = 'deploying' and new.status in ('rolled_back', 'retired') and new.ended_at is not null))
        and (new.rollout_phase = old.rollout_phase or begins
            or (old.rollout_phase = 'succeeded' and new.rollout_phase in ('promoting', 'aborting'))
            or (old.rollout_phase = 'aborting' and new.rollout_phase = 'succeeded')
            or (old.status = 'deploying' and new.rollout_phase = 'aborted'))
        and (new.traffic_percentage = old.traffic_percentage or (begins and new.traffic_percentage = 0))
        and (new.cutover_revision is null or new.cutover_revision is not distinct from old.cutover_revision)
        and (new.revived_for is null or new.revived_for is not distinct from old.revived_for))
    then
        raise insufficient_privilege using message = format(
            'only the deployments controller takes a deployment from %s/%s to %s/%s, or moves its traffic',
            old.status, old.rollout_phase, new.status, new.rollout_phase);
    end if;
    return new;
end
$$;
create trigger keep_deployment_true before insert or update on public.ai_model_deployments
    for each row execute function trimtab.keep_deployment_true();

-- One process or one address behind a deployment. Desired state is written by the deployments controller, the rest by
-- the runner that owns the replica.
create table trimtab.replicas (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    deployment_id uuid not null,
    ordinal int not null,
    kind text not null check (kind in ('external', 'process')),
    spec jsonb not null default '{}',
    desired text not null default 'running' check (desired in ('running', 'stopped')),
    generation int not null default 1,
    released_at timestamptz,
    released_revision bigint,
    runner_id uuid,
    status text not null default 'pending' check (status in
        ('pending', 'starting', 'ready', 'unhealthy', 'backoff', 'failed', 'stopping', 'stopped')),
    reason text not null default '',
    url text,
    pid int,
    restarts int not null default 0,
    cpu_percent real,
    memory_bytes bigint,
    changed_at timestamptz not null default now(),
    unique (deployment_id, ordinal),
    foreign key (workspace_id, deployment_id) references public.ai_model_deployments (workspace_id, id) on delete cascade
);
comment on column trimtab.replicas.generation is
    'Counts the times it was asked to run anew; what a runner reports of an earlier life is dropped.';
comment on column trimtab.replicas.released_at is
    'When it was taken out of the targets to be stopped, by the revision in released_revision.';
create index replicas_workspace on trimtab.replicas (workspace_id, deployment_id);
create index replicas_active on trimtab.replicas (runner_id) where status <> 'stopped';
select trimtab.protect('trimtab.replicas', 'viewer', 'operator', 'operator', 'system');

-- The program on one host that turns replica rows into processes.
create table trimtab.runners (
    id uuid primary key,
    hostname text not null,
    pid int not null,
    cpu int not null,
    memory_mb int not null,
    gpu int not null,
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now()
);
select trimtab.protect('trimtab.runners', 'system', 'system', 'system', 'system');

-- All that a workspace may know of runners: whether the one that holds a replica of its is alive.
create function trimtab.runner_lives(runner uuid) returns boolean
    language sql stable security definer set search_path = ''
    return exists (
        select from trimtab.runners u where u.id = runner and u.heartbeat_at > now() - interval '15 seconds');
revoke execute on function trimtab.runner_lives from public;
grant execute on function trimtab.runner_lives to authenticated;

------------------------------------------------------------------------------------------------------------------
-- Routing: what gateways hold in memory. An entry carries the revision that last changed it, so a gateway asks for
-- `revision > mine` and has the patch. Admins add and revoke keys; routes and deployments are published by the
-- controller, who has judged them.
------------------------------------------------------------------------------------------------------------------

create table trimtab.routing_head (
    only_row boolean primary key default true check (only_row),
    revision bigint not null
);
select trimtab.protect('trimtab.routing_head', 'system', 'none', 'none', 'none');
insert into trimtab.routing_head (revision) values (0);

create table trimtab.routing_revisions (
    revision bigint primary key,
    workspace_id uuid references trimtab.workspaces on delete cascade,
    reason text not null,
    actor_id uuid,
    created_at timestamptz not null default now()
);
create index routing_revisions_workspace on trimtab.routing_revisions (workspace_id, revision);
select trimtab.protect('trimtab.routing_revisions', 'viewer', 'none', 'none', 'none');

create table trimtab.routing_entries (
    kind text not null check (kind in ('api_key', 'route', 'deployment')),
    key text not null,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    revision bigint not null,
    body jsonb,
    primary key (kind, key),
    -- Gateways go by what the body says, so it must not name a workspace other than the one the policies judged by.
    check (body is null or coalesce(body ->> 'workspace_id', '') = workspace_id::text),
    check (kind <> 'route' or starts_with(key, workspace_id::text || '/'))
);
create index routing_entries_revision on trimtab.routing_entries (revision);
create index routing_entries_workspace on trimtab.routing_entries (workspace_id);
create index routing_entries_model on trimtab.routing_entries ((body ->> 'model_id'))
    where kind in ('route', 'deployment') and body is not null;
comment on column trimtab.routing_entries.body is 'Null marks an entry that is gone; gateways must hear of that too.';
select trimtab.protect('trimtab.routing_entries', 'operator', 'admin', 'admin', 'system');
create policy people_add_keys_alone on trimtab.routing_entries as restrictive for insert to authenticated with check (
    kind = 'api_key' or (select trimtab.is_system()));
create policy people_change_keys_alone on trimtab.routing_entries as restrictive for update to authenticated using (
    kind = 'api_key' or (select trimtab.is_system()));

-- The next revision, as the last step of the change that needs it. The row lock on the head is held until commit, so
-- revisions become visible in their order and `revision > mine` misses nothing.
create function trimtab.next_revision(of_workspace uuid, why text) returns bigint
    language plpgsql security definer set search_path = ''
as $$
declare
    next_one bigint;
begin
    if not (trimtab.is_system()
            or (trimtab.has_role('admin') and of_workspace = trimtab.current_workspace())) then
        raise insufficient_privilege using message = 'routing is changed by the program and by admins of the workspace';
    end if;
    update trimtab.routing_head set revision = revision + 1 returning revision into next_one;
    insert into trimtab.routing_revisions (revision, workspace_id, reason, actor_id)
        values (next_one, of_workspace, why, trimtab.current_member());
    perform pg_notify('trimtab_routing', next_one::text);
    return next_one;
end
$$;
revoke execute on function trimtab.next_revision from public;
grant execute on function trimtab.next_revision to authenticated;

-- One gateway worker: the revision it serves, and when it last used each deployment.
create table trimtab.gateway_instances (
    id uuid primary key,
    hostname text not null,
    pid int not null,
    program_version text not null,
    revision bigint not null,
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    lease_until timestamptz not null,
    activity jsonb not null default '{}'
);
comment on column trimtab.gateway_instances.activity is
    'deployment id -> {"in_flight": n, "last_request_at": RFC 3339} for deployments used since the last minutes.';
select trimtab.protect('trimtab.gateway_instances', 'system', 'system', 'system', 'system');

-- What happened, in order, for live views and for the story of one object.
create table trimtab.events (
    id uuid not null,
    workspace_id uuid not null,
    at timestamptz not null,
    name text not null,
    subject_type text not null,
    subject_id uuid not null,
    data jsonb not null default '{}',
    primary key (id, at)
) partition by range (at);
create index events_workspace on trimtab.events (workspace_id, id);
create index events_subject on trimtab.events (workspace_id, subject_id, id);
select trimtab.protect('trimtab.events', 'viewer', 'operator', 'none', 'none');
create policy in_their_own_name on trimtab.events as restrictive for insert to authenticated with check (
    (select trimtab.is_system()) or not data ? 'by' or trimtab.is_self(trimtab.current_member(), data ->> 'by'));
insert into trimtab.partitioned_tables values ('trimtab.events', 3, 90);
