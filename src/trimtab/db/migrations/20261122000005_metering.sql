-- What was served: the request log, its rollups, custom metrics, and how far each spool has been shipped.

create table trimtab.request_log (
    id uuid not null,
    workspace_id uuid not null,
    started_at timestamptz not null,
    api_key_id uuid,
    member_id uuid,
    unit text,
    requested_model text not null,
    environment text,
    model_id uuid,
    lifecycle_id uuid,
    deployment_id uuid,
    version_tag text,
    variant text,
    routing_revision bigint not null,
    provider text,
    upstream_model text,
    dialect text not null,
    operation text not null,
    streamed boolean not null,
    status int not null,
    error_code text,
    finish_reason text,
    client_gone boolean not null,
    latency_us bigint not null,
    ttft_us bigint,
    input_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    output_tokens bigint not null,
    reasoning_tokens bigint not null,
    usage_source text not null,
    cost_nano bigint not null,
    attempts jsonb,
    spool_id uuid not null,
    spool_segment bigint not null,
    spool_offset bigint not null,
    primary key (id, started_at)
) partition by range (started_at);
-- Ids are in the order of time.
create index request_log_workspace on trimtab.request_log (workspace_id, id);
create index request_log_deployment on trimtab.request_log (deployment_id, id) where deployment_id is not null;
comment on column trimtab.request_log.input_tokens is 'Uncached input; cache reads and writes are counted apart, so the four buckets add up.';
select trimtab.protect('trimtab.request_log', 'viewer', 'system', 'none', 'none');
insert into trimtab.partitioned_tables values ('trimtab.request_log', 3, 30);

-- What a rollup row counts: the distinct combination of dimensions, named once.
create table trimtab.series (
    id bigint generated always as identity primary key,
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    api_key_id uuid,
    model_id uuid,
    lifecycle_id uuid,
    deployment_id uuid,
    environment text,
    provider text,
    upstream_model text,
    operation text not null,
    unique nulls not distinct
        (workspace_id, api_key_id, model_id, lifecycle_id, deployment_id, environment, provider, upstream_model, operation)
);
create index series_deployment on trimtab.series (deployment_id);
select trimtab.protect('trimtab.series', 'viewer', 'system', 'none', 'none');

-- Sparse rows per (series, minute, source); a source has one writer, so rows are never contended. Histograms are runs of
-- (bucket int32, count int32) pairs, little endian; two of them are merged by concatenation.
create table trimtab.rollup_minute (
    series_id bigint not null,
    workspace_id uuid not null,
    bucket timestamptz not null,
    source_id uuid not null,
    requests bigint not null,
    errors_client bigint not null,
    errors_upstream bigint not null,
    clients_gone bigint not null,
    streamed bigint not null,
    retries bigint not null,
    input_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    output_tokens bigint not null,
    reasoning_tokens bigint not null,
    cost_nano bigint not null,
    latency_count bigint not null,
    latency_us_sum bigint not null,
    ttft_count bigint not null,
    ttft_us_sum bigint not null,
    generation_count bigint not null,
    generation_tokens bigint not null,
    generation_us_sum bigint not null,
    latency_hist bytea not null,
    ttft_hist bytea not null,
    speed_hist bytea not null,
    primary key (series_id, bucket, source_id)
) partition by range (bucket);
create index rollup_minute_workspace on trimtab.rollup_minute (workspace_id, bucket);
comment on column trimtab.rollup_minute.generation_us_sum is
    'Time in which generation_tokens came: from first to last token where streamed, the whole latency otherwise.';
select trimtab.protect('trimtab.rollup_minute', 'viewer', 'system', 'system', 'system');
insert into trimtab.partitioned_tables values ('trimtab.rollup_minute', 3, 8);

create table trimtab.rollup_hour (like trimtab.rollup_minute including defaults including constraints,
    primary key (series_id, bucket, source_id));
create index rollup_hour_workspace on trimtab.rollup_hour (workspace_id, bucket);
select trimtab.protect('trimtab.rollup_hour', 'viewer', 'system', 'system', 'system');

create table trimtab.rollup_day (like trimtab.rollup_minute including defaults including constraints,
    primary key (series_id, bucket, source_id));
create index rollup_day_workspace on trimtab.rollup_day (workspace_id, bucket);
select trimtab.protect('trimtab.rollup_day', 'viewer', 'system', 'system', 'system');

-- Custom and sampled values, as they came.
create table public.ai_model_performance_metrics (
    id uuid not null,
    workspace_id uuid not null,
    deployment_id uuid not null,
    metric_type text not null check (length(metric_type) between 1 and 128),
    metric_value double precision not null,
    metric_unit text not null default '',
    recorded_at timestamptz not null,
    metadata jsonb not null default '{}',
    primary key (id, recorded_at)
) partition by range (recorded_at);
create index ai_model_performance_metrics_of
    on public.ai_model_performance_metrics (workspace_id, deployment_id, metric_type, recorded_at);
select trimtab.protect('public.ai_model_performance_metrics', 'viewer', 'operator', 'none', 'none');
insert into trimtab.partitioned_tables values ('public.ai_model_performance_metrics', 3, 30);

-- The same, counted per minute and source, with mergeable histograms.
create table trimtab.metric_rollup_minute (
    workspace_id uuid not null,
    deployment_id uuid not null,
    metric_type text not null,
    bucket timestamptz not null,
    source_id uuid not null,
    metric_unit text not null,
    count bigint not null,
    sum double precision not null,
    min double precision not null,
    max double precision not null,
    hist bytea not null,
    primary key (deployment_id, metric_type, bucket, source_id)
) partition by range (bucket);
create index metric_rollup_minute_workspace on trimtab.metric_rollup_minute (workspace_id, bucket);
select trimtab.protect('trimtab.metric_rollup_minute', 'viewer', 'operator', 'operator', 'system');
insert into trimtab.partitioned_tables values ('trimtab.metric_rollup_minute', 3, 8);

create table trimtab.metric_rollup_hour (like trimtab.metric_rollup_minute including defaults including constraints,
    primary key (deployment_id, metric_type, bucket, source_id));
create index metric_rollup_hour_workspace on trimtab.metric_rollup_hour (workspace_id, bucket);
select trimtab.protect('trimtab.metric_rollup_hour', 'viewer', 'system', 'system', 'system');

create table trimtab.metric_rollup_day (like trimtab.metric_rollup_minute including defaults including constraints,
    primary key (deployment_id, metric_type, bucket, source_id));
create index metric_rollup_day_workspace on trimtab.metric_rollup_day (workspace_id, bucket);
select trimtab.protect('trimtab.metric_rollup_day', 'viewer', 'system', 'system', 'system');

-- Hours (and days) whose rollups are behind: written in the transaction that changed what they are made from, removed in
-- the one that makes them anew. A reader takes the finer rows for a bucket that is listed here, so it misses nothing.
create table trimtab.rollup_dirty (
    id bigint generated always as identity primary key,
    workspace_id uuid not null,
    family text not null check (family in ('request', 'metric')),
    grain text not null check (grain in ('hour', 'day')),
    bucket timestamptz not null
);
create index rollup_dirty_of on trimtab.rollup_dirty (workspace_id, family, bucket);
select trimtab.protect('trimtab.rollup_dirty', 'viewer', 'operator', 'none', 'system');

-- Up to where each spool is in the database: moved in the same transaction as the rows.
create table trimtab.spool_positions (
    spool_id uuid primary key,
    segment bigint not null,
    position bigint not null,
    records bigint not null default 0,
    updated_at timestamptz not null default now()
);
select trimtab.protect('trimtab.spool_positions', 'system', 'system', 'system', 'system');

-- Billing: one row per day and combination, kept for good.
create table public.ai_model_usage_analytics (
    workspace_id uuid not null references trimtab.workspaces on delete cascade,
    day date not null,
    model_id uuid,
    lifecycle_id uuid,
    deployment_id uuid,
    api_key_id uuid,
    provider text,
    upstream_model text,
    requests bigint not null,
    errors bigint not null,
    input_tokens bigint not null,
    cache_read_tokens bigint not null,
    cache_write_tokens bigint not null,
    output_tokens bigint not null,
    reasoning_tokens bigint not null,
    cost_nano bigint not null,
    unique nulls not distinct
        (workspace_id, day, model_id, lifecycle_id, deployment_id, api_key_id, provider, upstream_model)
);
select trimtab.protect('public.ai_model_usage_analytics', 'viewer', 'system', 'system', 'system');
