import { Stack, Title } from "@mantine/core";
import { Panel } from "../components/Panel";
import { DeploymentsPanel } from "../features/deployments/components/DeploymentsPanel";
import { HealthPanel } from "../features/health/components/HealthPanel";
import { SignInForm } from "../features/session/components/SignInForm";
import { useApiKey } from "../lib/session";

/** The state of the system at a glance. */
export function OverviewPage() {
  const apiKey = useApiKey();
  return (
    <Stack gap="lg">
      <Title order={1} size="h2">
        Overview
      </Title>
      <HealthPanel />
      {apiKey === null ? (
        <Panel title="Deployments">
          <SignInForm />
        </Panel>
      ) : (
        <DeploymentsPanel apiKey={apiKey} renderSignIn={(refusal) => <SignInForm refusal={refusal} />} />
      )}
    </Stack>
  );
}
