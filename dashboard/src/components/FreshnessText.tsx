import { formatTime } from "../lib/format";
import type { Freshness } from "../lib/freshness";
import { StatusText } from "./StatusText";

/** Whether what is shown is current, in words. */
export function FreshnessText({ freshness }: { freshness: Freshness }) {
  switch (freshness.state) {
    case "connecting":
      return (
        <StatusText tone="quiet" icon="refresh">
          Connecting
        </StatusText>
      );
    case "live":
      return (
        <StatusText tone="good" icon="pulse">
          Live
        </StatusText>
      );
    case "reconnecting":
      return (
        <StatusText tone="warning" icon="refresh">
          Reconnecting
        </StatusText>
      );
    case "stale":
      return (
        <StatusText tone="bad" icon="clock">
          {`Stale since ${formatTime(freshness.since)}`}
        </StatusText>
      );
  }
}
