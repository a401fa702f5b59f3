import { Skeleton, Text } from "@mantine/core";
import { FreshnessText } from "../../../components/FreshnessText";
import type { IconName } from "../../../components/icons";
import { Panel } from "../../../components/Panel";
import { FailedState } from "../../../components/PanelState";
import { StatusText, type Tone } from "../../../components/StatusText";
import { humanize, MISSING, plural } from "../../../lib/format";
import { useFreshness } from "../../../lib/freshness";
import { type Check, type Readiness, useLiveness, useReadiness } from "../api/useHealth";
import classes from "./HealthPanel.module.css";

const CHECK_LOOKS: Record<Check["status"], { tone: Tone; icon: IconName; label: string }> = {
  ok: { tone: "good", icon: "check", label: "OK" },
  degraded: { tone: "warning", icon: "warning", label: "Degraded" },
  failed: { tone: "bad", icon: "cross", label: "Failed" },
};

const OVERALL_LOOKS: Record<Readiness["status"], { tone: Tone; icon: IconName; label: string }> = {
  ready: { tone: "good", icon: "check", label: "Ready" },
  degraded: { tone: "warning", icon: "warning", label: "Degraded" },
  unavailable: { tone: "bad", icon: "cross", label: "Unavailable" },
};

/** The health of the whole system: one sentence, then every check. */
export function HealthPanel() {
  const liveness = useLiveness();
  const readiness = useReadiness();
  const freshness = useFreshness(readiness);

  return (
    <Panel title="System health" aside={<FreshnessText freshness={freshness} />}>
      {readiness.data !== undefined ? (
        <HealthDetails readiness={readiness.data} version={liveness.data?.version} />
      ) : readiness.error !== null ? (
        <FailedState
          title="The health of the system is unknown"
          error={readiness.error}
          onRetry={() => readiness.refetch()}
        />
      ) : (
        <div className={classes.summary}>
          <Skeleton height={26} width={110} radius="xl" />
          <Skeleton height={18} width={180} />
        </div>
      )}
    </Panel>
  );
}

function HealthDetails({ readiness, version }: { readiness: Readiness; version: string | undefined }) {
  const overall = OVERALL_LOOKS[readiness.status];
  return (
    <>
      <div className={classes.summary} role="status">
        <StatusText tone={overall.tone} icon={overall.icon}>
          {overall.label}
        </StatusText>
        <Text>{summarize(readiness.checks)}</Text>
        <Text c="dimmed" size="sm" className={classes.version}>
          {`Trimtab ${version ?? MISSING}`}
        </Text>
      </div>
      {readiness.checks.length > 0 && (
        <ul className={classes.checks}>
          {readiness.checks.map((check) => (
            <CheckItem key={check.name} check={check} />
          ))}
        </ul>
      )}
    </>
  );
}

function CheckItem({ check }: { check: Check }) {
  const look = CHECK_LOOKS[check.status];
  return (
    <li className={classes.check}>
      <div className={classes.name}>
        <Text fw={500}>{humanize(check.name)}</Text>
        <StatusText tone={look.tone} icon={look.icon}>
          {look.label}
        </StatusText>
      </div>
      {check.detail && (
        <Text c="dimmed" size="sm">
          {check.detail}
        </Text>
      )}
    </li>
  );
}

function summarize(checks: Check[]): string {
  const troubled = checks.filter((check) => check.status !== "ok").length;
  if (checks.length === 0) return "The server answers; it reports no checks.";
  if (troubled === 0) return checks.length === 1 ? "Its check passes." : `All ${checks.length} checks pass.`;
  return `${troubled} of ${plural(checks.length, "check")} ${troubled === 1 ? "needs" : "need"} attention.`;
}
