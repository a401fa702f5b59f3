-- Models and their versions.

create table public.ai_models (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    name text not null check (length(name) between 1 and 128 and name !~ '[@/[:cntrl:]]'),
    description text not null default '',
    provider text not null,
    tags jsonb not null default '{}',
    created_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    unique (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create unique index ai_models_name on public.ai_models (workspace_id, lower(name));
create index ai_models_page on public.ai_models (workspace_id, id);
select trimtab.protect('public.ai_models', 'viewer', 'operator', 'operator', 'admin');

-- A model's own prices, dated, in pico-USD per token (1 USD per million tokens = 1,000,000 pico-USD per token);
-- they take the place of the public price list from `effective_from` on.
create table public.ai_model_prices (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    model_id uuid not null,
    effective_from timestamptz not null,
    input_pico bigint not null check (input_pico >= 0),
    output_pico bigint not null check (output_pico >= 0),
    cache_read_pico bigint not null check (cache_read_pico >= 0),
    cache_write_pico bigint not null check (cache_write_pico >= 0),
    created_by uuid,
    created_at timestamptz not null default now(),
    unique (model_id, effective_from),
    foreign key (workspace_id, model_id) references public.ai_models (workspace_id, id) on delete cascade,
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create index ai_model_prices_workspace on public.ai_model_prices (workspace_id, model_id);
select trimtab.protect('public.ai_model_prices', 'viewer', 'operator', 'none', 'admin');

create table public.ai_model_lifecycle (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    model_id uuid not null,
    version_tag text not null check (length(version_tag) between 1 and 128 and version_tag !~ '[@/[:cntrl:]]'
        and lower(version_tag) not in ('development', 'testing', 'staging', 'production', 'deprecated', 'retired', 'preview')),
    lifecycle_stage text not null default 'development' check (lifecycle_stage in
        ('development', 'testing', 'staging', 'production', 'deprecated', 'retired')),
    approval_status text not null default 'pending' check (approval_status in
        ('pending', 'approved', 'rejected', 'conditional')),
    approval_conditions jsonb,
    deployment_config jsonb not null default '{}',
    performance_requirements jsonb not null default '{}',
    resource_allocation jsonb not null default '{}',
    description text not null default '',
    parent_lifecycle_id uuid,
    lineage jsonb not null default '{}',
    credential_id uuid,
    decided_by uuid,
    decided_by_name text,
    decided_at timestamptz,
    frozen_at timestamptz,
    created_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    unique (workspace_id, id),
    -- References name the workspace too: foreign keys look past row level security.
    foreign key (workspace_id, model_id) references public.ai_models (workspace_id, id) on delete cascade,
    foreign key (workspace_id, parent_lifecycle_id) references public.ai_model_lifecycle (workspace_id, id),
    foreign key (workspace_id, credential_id) references trimtab.provider_credentials (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
comment on column public.ai_model_lifecycle.frozen_at is 'When it was first approved; its configuration is fixed since.';
create unique index ai_model_lifecycle_tag on public.ai_model_lifecycle (model_id, lower(version_tag));
create index ai_model_lifecycle_page on public.ai_model_lifecycle (workspace_id, model_id, id);
select trimtab.protect('public.ai_model_lifecycle', 'viewer', 'operator', 'operator', 'admin');

-- What holds also for those who reach the table without the program (as on Supabase): a version begins unapproved and
-- with its true author, what was once approved stays as it was, and four eyes are four eyes.
create function trimtab.keep_version_true() returns trigger
    language plpgsql set search_path = ''
as $$
declare
    trusted boolean := trimtab.is_trusted(tg_relid);
    member uuid := trimtab.current_member();
begin
    if tg_op = 'INSERT' then
        if not trusted then
            -- A version without an author could be approved by its author.
            if member is null then
                raise insufficient_privilege using message = 'a version is registered by a member of the workspace';
            end if;
            new.created_by := member;
            new.lifecycle_stage := 'development';
            new.approval_status := 'pending';
            new.approval_conditions := null;
            new.decided_by := null;
            new.decided_by_name := null;
            new.decided_at := null;
            new.frozen_at := null;
        end if;
    else
        new.created_by := old.created_by;
        new.frozen_at := old.frozen_at;
        if old.frozen_at is not null and (
            new.version_tag, new.model_id, new.deployment_config, new.performance_requirements,
            new.resource_allocation, new.credential_id) is distinct from (
            old.version_tag, old.model_id, old.deployment_config, old.performance_requirements,
            old.resource_allocation, old.credential_id)
        then
            raise exception 'version % was approved and cannot be changed', old.version_tag using errcode = '55006';
        end if;
        if not trusted and (
            new.approval_status, new.approval_conditions, new.decided_by, new.decided_by_name, new.decided_at)
            is distinct from (
            old.approval_status, old.approval_conditions, old.decided_by, old.decided_by_name, old.decided_at)
        then
            if member is null then
                raise insufficient_privilege using message = 'a version is approved by a member of the workspace';
            end if;
            new.decided_by := member;
            new.decided_by_name := (
                select m.name from trimtab.members m where m.workspace_id = new.workspace_id and m.id = member);
            if new.approval_status in ('approved', 'conditional') and new.created_by = member
                and exists (select from trimtab.workspaces w
                            where w.id = new.workspace_id and w.settings -> 'four_eyes' = 'true'::jsonb)
            then
                raise insufficient_privilege using message = 'an author cannot approve their own version';
            end if;
        end if;
    end if;
    if new.approval_status in ('approved', 'conditional') then
        new.frozen_at := coalesce(new.frozen_at, now());
    end if;
    return new;
end
$$;
create trigger keep_version_true before insert or update on public.ai_model_lifecycle
    for each row execute function trimtab.keep_version_true();

-- Each step in the life of a version: registered, changed, approved, rejected, conditional, stage.
create table trimtab.lifecycle_events (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    lifecycle_id uuid not null,
    at timestamptz not null default now(),
    actor_id uuid,
    actor_name text not null,
    event text not null check (event in
        ('registered', 'changed', 'approved', 'rejected', 'conditional', 'stage')),
    from_value text,
    to_value text,
    comment text not null default '',
    evidence jsonb not null default '{}',
    foreign key (workspace_id, lifecycle_id) references public.ai_model_lifecycle (workspace_id, id) on delete cascade
);
create index lifecycle_events_of on trimtab.lifecycle_events (workspace_id, lifecycle_id, id);
select trimtab.protect('trimtab.lifecycle_events', 'viewer', 'operator', 'none', 'none');
create policy in_their_own_name on trimtab.lifecycle_events as restrictive for insert to authenticated with check (
    (select trimtab.is_system()) or trimtab.is_self(actor_id, actor_name));
