import { Table, Text } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { StatusText } from "../../../components/StatusText";
import type { Deployment } from "../../../lib/api";
import { formatPercentage, humanize, MISSING } from "../../../lib/format";
import classes from "./DeploymentList.module.css";
import { lookOf } from "./status";

/** A table where there is room for one, else a list of cards. */
export function DeploymentList({ deployments }: { deployments: Deployment[] }) {
  const narrow = useMediaQuery("(max-width: 62em)", undefined, { getInitialValueInEffect: false });
  return narrow ? <Cards deployments={deployments} /> : <WideTable deployments={deployments} />;
}

function WideTable({ deployments }: { deployments: Deployment[] }) {
  return (
    <Table
      verticalSpacing="sm"
      horizontalSpacing="lg"
      highlightOnHover
      highlightOnHoverColor="var(--trimtab-ground)"
      className={classes.table}
    >
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Deployment</Table.Th>
          <Table.Th>Environment</Table.Th>
          <Table.Th>Status</Table.Th>
          <Table.Th>Rollout</Table.Th>
          <Table.Th>Traffic now</Table.Th>
          <Table.Th>Endpoint</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {deployments.map((deployment) => (
          <Table.Tr key={deployment.id}>
            <Table.Td className={classes.name}>
              <Text size="sm" fw={600}>
                {deployment.deployment_name}
              </Text>
              <Version deployment={deployment} />
            </Table.Td>
            <Table.Td>{humanize(deployment.environment)}</Table.Td>
            <Table.Td className={classes.status}>
              <Status deployment={deployment} />
            </Table.Td>
            <Table.Td>
              <Rollout deployment={deployment} />
            </Table.Td>
            <Table.Td>
              <Traffic share={deployment.traffic_percentage} />
            </Table.Td>
            <Table.Td className={classes.endpoint}>
              <Text size="sm" c="dimmed" truncate title={deployment.endpoint_url ?? undefined}>
                {deployment.endpoint_url ?? MISSING}
              </Text>
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Cards({ deployments }: { deployments: Deployment[] }) {
  return (
    <ul className={classes.cards}>
      {deployments.map((deployment) => (
        <li key={deployment.id} className={classes.card}>
          <div className={classes.cardHead}>
            <Text fw={600}>{deployment.deployment_name}</Text>
            <Version deployment={deployment} />
          </div>
          <Status deployment={deployment} />
          <dl className={classes.facts}>
            <dt>Environment</dt>
            <dd>{humanize(deployment.environment)}</dd>
            <dt>Rollout</dt>
            <dd>
              <Rollout deployment={deployment} />
            </dd>
            <dt>Traffic now</dt>
            <dd>
              <Traffic share={deployment.traffic_percentage} />
            </dd>
            <dt>Endpoint</dt>
            <dd>{deployment.endpoint_url ?? MISSING}</dd>
          </dl>
        </li>
      ))}
    </ul>
  );
}

function Version({ deployment }: { deployment: Deployment }) {
  return (
    <Text size="sm" c="dimmed">
      {deployment.model_name} <span className={classes.tag}>{deployment.version_tag}</span>
    </Text>
  );
}

function Status({ deployment }: { deployment: Deployment }) {
  const look = lookOf(deployment.status);
  return (
    <>
      <StatusText tone={look.tone} icon={look.icon}>
        {humanize(deployment.status)}
      </StatusText>
      {deployment.status_reason && (
        <Text size="sm" c="dimmed" mt={4}>
          {deployment.status_reason}
        </Text>
      )}
    </>
  );
}

function Rollout({ deployment }: { deployment: Deployment }) {
  return (
    <Text size="sm">
      {humanize(deployment.deployment_type)}
      {deployment.rollout_phase && (
        <span className={classes.phase}>, {humanize(deployment.rollout_phase).toLowerCase()}</span>
      )}
    </Text>
  );
}

function Traffic({ share }: { share: number | null | undefined }) {
  return (
    <span className={classes.traffic}>
      <svg aria-hidden="true" className={classes.bar} viewBox="0 0 100 6" preserveAspectRatio="none">
        <rect className={classes.track} width="100" height="6" />
        <rect className={classes.fill} width={share ?? 0} height="6" />
      </svg>
      {formatPercentage(share)}
    </span>
  );
}
