import { Button, Code, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { RequestError } from "../lib/http";
import { Icon, type IconName } from "./icons";
import classes from "./PanelState.module.css";

interface PanelStateProps {
  icon: IconName;
  title: string;
  children: ReactNode;
  action?: ReactNode;
}

/** What a panel shows in place of data: what is the matter and what to do next. */
export function PanelState({ icon, title, children, action }: PanelStateProps) {
  return (
    <div className={classes.state}>
      <span className={classes.icon}>
        <Icon name={icon} size={22} />
      </span>
      <Text fw={600}>{title}</Text>
      <div className={classes.body}>{children}</div>
      {action}
    </div>
  );
}

interface FailedStateProps {
  title: string;
  error: Error;
  onRetry: () => void;
}

/** A request that failed: the reason, the request id for the log, and a retry. */
export function FailedState({ title, error, onRetry }: FailedStateProps) {
  const requestId = error instanceof RequestError ? error.requestId : null;
  return (
    <PanelState
      icon="warning"
      title={title}
      action={
        <Button variant="default" onClick={onRetry}>
          Try again
        </Button>
      }
    >
      {error.message}
      {requestId !== null && (
        <div>
          Request <Code>{requestId}</Code>
        </div>
      )}
    </PanelState>
  );
}
