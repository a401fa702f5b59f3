import { useQuery } from "@tanstack/react-query";
import { POLL_MS } from "../../../lib/freshness";
import { getJson } from "../../../lib/http";

export interface Liveness {
  status: "ok";
  version: string;
}

export interface Check {
  name: string;
  status: "ok" | "degraded" | "failed";
  detail: string | null;
}

export interface Readiness {
  status: "ready" | "degraded" | "unavailable";
  checks: Check[];
}

/** The program answers at all, and which version of it. */
export function useLiveness() {
  return useQuery({
    queryKey: ["healthz"],
    queryFn: ({ signal }) => getJson<Liveness>("/healthz", { signal }),
    refetchInterval: POLL_MS,
  });
}

/** Every part the program needs, checked. A 503 carries the same document as a 200. */
export function useReadiness() {
  return useQuery({
    queryKey: ["readyz"],
    queryFn: ({ signal }) => getJson<Readiness>("/readyz", { signal, accept: [503] }),
    refetchInterval: POLL_MS,
  });
}
