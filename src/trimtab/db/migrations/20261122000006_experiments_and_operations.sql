-- Tests, fine-tuning, recommendations and alerts: the tables that close the loop.

create table public.ai_ab_tests (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    test_name text not null,
    model_a_deployment_id uuid not null,
    model_b_deployment_id uuid not null,
    traffic_split_percentage numeric(5, 2) not null default 50 check (traffic_split_percentage between 0 and 100),
    status text not null default 'draft' check (status in ('draft', 'running', 'paused', 'completed', 'aborted')),
    statistical_significance_threshold double precision not null default 0.05
        check (statistical_significance_threshold > 0 and statistical_significance_threshold < 1),
    test_criteria jsonb not null default '{}',
    success_metrics jsonb not null default '{}',
    created_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    foreign key (workspace_id, model_a_deployment_id) references public.ai_model_deployments (workspace_id, id),
    foreign key (workspace_id, model_b_deployment_id) references public.ai_model_deployments (workspace_id, id),
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create index ai_ab_tests_page on public.ai_ab_tests (workspace_id, id);
select trimtab.protect('public.ai_ab_tests', 'viewer', 'operator', 'operator', 'none');

create table public.ai_ab_test_results (
    id uuid not null,
    workspace_id uuid not null,
    test_id uuid not null,
    metric_name text not null,
    result jsonb not null,
    recorded_at timestamptz not null,
    primary key (id, recorded_at)
) partition by range (recorded_at);
create index ai_ab_test_results_of on public.ai_ab_test_results (workspace_id, test_id, recorded_at);
select trimtab.protect('public.ai_ab_test_results', 'viewer', 'system', 'none', 'none');
insert into trimtab.partitioned_tables values ('public.ai_ab_test_results', 3, 400);

create table public.ai_fine_tuning_jobs (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    job_name text not null,
    base_model_id uuid not null,
    training_dataset_id uuid not null,
    status text not null default 'queued' check (status in
        ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    progress_percentage numeric(5, 2) not null default 0 check (progress_percentage between 0 and 100),
    hyperparameters jsonb not null default '{}',
    created_by uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    foreign key (workspace_id, base_model_id) references public.ai_models (workspace_id, id) on delete cascade,
    foreign key (workspace_id, created_by) references trimtab.members (workspace_id, id)
);
create index ai_fine_tuning_jobs_page on public.ai_fine_tuning_jobs (workspace_id, id);
select trimtab.protect('public.ai_fine_tuning_jobs', 'viewer', 'operator', 'operator', 'none');

create table public.ai_optimization_recommendations (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    kind text not null,
    state text not null default 'active' check (state in ('active', 'claimed', 'succeeded', 'failed', 'dismissed')),
    subject_id uuid,
    content jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1
);
create index ai_optimization_recommendations_page on public.ai_optimization_recommendations (workspace_id, id);
select trimtab.protect('public.ai_optimization_recommendations', 'viewer', 'system', 'operator', 'none');

create table public.ai_model_alerts (
    id uuid primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    deployment_id uuid,
    alert_type text not null,
    severity text not null check (severity in ('info', 'warning', 'error', 'critical')),
    state text not null default 'pending' check (state in
        ('pending', 'firing', 'acknowledged', 'resolved', 'suppressed')),
    message text not null,
    evidence jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version int not null default 1,
    foreign key (workspace_id, deployment_id) references public.ai_model_deployments (workspace_id, id) on delete cascade
);
create index ai_model_alerts_page on public.ai_model_alerts (workspace_id, id);
select trimtab.protect('public.ai_model_alerts', 'viewer', 'system', 'operator', 'none');

-- The first partitions of every table that has them.
select trimtab.ensure_partition(table_name, (now() at time zone 'utc')::date + ahead)
from trimtab.partitioned_tables, generate_series(0, days_ahead) ahead;
