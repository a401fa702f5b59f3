import { Button, Code, Skeleton, Text } from "@mantine/core";
import { FreshnessText } from "../../../components/FreshnessText";
import { Panel } from "../../../components/Panel";
import { FailedState, PanelState } from "../../../components/PanelState";
import type { DeploymentPage } from "../../../lib/api";
import { plural } from "../../../lib/format";
import { useFreshness } from "../../../lib/freshness";
import { signOut } from "../../../lib/session";
import { isRefusal, useDeployments } from "../api/useDeployments";
import { DeploymentList } from "./DeploymentList";
import classes from "./DeploymentsPanel.module.css";

interface DeploymentsPanelProps {
  apiKey: string;
  /** What to show when the server does not know the key. */
  renderSignIn: (refusal: string) => React.ReactNode;
}

/** Every deployment with its state, live. */
export function DeploymentsPanel({ apiKey, renderSignIn }: DeploymentsPanelProps) {
  const query = useDeployments(apiKey);
  const freshness = useFreshness(query);
  const refused = isRefusal(query.error);

  return (
    <Panel title="Deployments" aside={!refused && <FreshnessText freshness={freshness} />}>
      <Body query={query} renderSignIn={renderSignIn} />
    </Panel>
  );
}

interface BodyProps {
  query: ReturnType<typeof useDeployments>;
  renderSignIn: DeploymentsPanelProps["renderSignIn"];
}

function Body({ query, renderSignIn }: BodyProps) {
  const { data, error } = query;
  if (isRefusal(error)) {
    if (error.status === 401) return renderSignIn(`${error.message} Enter another key.`);
    return (
      <PanelState
        icon="lock"
        title="This key may not see deployments"
        action={
          <Button variant="default" onClick={signOut}>
            Use another key
          </Button>
        }
      >
        {error.message} Ask an administrator of the workspace for a key with the role viewer or higher.
      </PanelState>
    );
  }
  if (data !== undefined) return <Loaded page={data} />;
  if (error !== null) {
    return (
      <FailedState title="The deployments could not be read" error={error} onRetry={() => query.refetch()} />
    );
  }
  return (
    <div className={classes.waiting} aria-hidden="true">
      <Skeleton height={20} />
      <Skeleton height={20} />
      <Skeleton height={20} />
    </div>
  );
}

function Loaded({ page }: { page: DeploymentPage }) {
  if (page.items.length === 0) {
    return (
      <PanelState icon="inbox" title="No deployments yet">
        <Text>Register a model, approve a version of it, then deploy that version:</Text>
        <Code block className={classes.example}>
          trimtab deploy --help
        </Code>
      </PanelState>
    );
  }
  return (
    <>
      <DeploymentList deployments={page.items} />
      {page.next_cursor != null && (
        <Text c="dimmed" size="sm" className={classes.more}>
          The first {plural(page.items.length, "deployment")} are shown; trimtab deployments list has them
          all.
        </Text>
      )}
    </>
  );
}
