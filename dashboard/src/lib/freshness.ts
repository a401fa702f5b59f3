import { useEffect, useState } from "react";

/** How often live data is asked for, until the server pushes it. */
export const POLL_MS = 2_000;
const STALE_AFTER_MS = 10_000;

export type Freshness =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting" }
  | { state: "stale"; since: Date };

interface Polled {
  dataUpdatedAt: number;
  isError: boolean;
}

/** Judges how current polled data is: pure, `now` in milliseconds since the epoch. */
export function judgeFreshness({ dataUpdatedAt, isError }: Polled, now: number): Freshness {
  if (dataUpdatedAt === 0) return { state: isError ? "reconnecting" : "connecting" };
  if (now - dataUpdatedAt > STALE_AFTER_MS) return { state: "stale", since: new Date(dataUpdatedAt) };
  return { state: isError ? "reconnecting" : "live" };
}

/** The freshness of a query, kept up while time passes. */
export function useFreshness(query: Polled): Freshness {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return judgeFreshness(query, now);
}
