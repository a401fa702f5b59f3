import { useQuery } from "@tanstack/react-query";
import type { DeploymentPage } from "../../../lib/api";
import { POLL_MS } from "../../../lib/freshness";
import { getJson, RequestError } from "../../../lib/http";

const LIMIT = 100;

/** The workspace's deployments, newest state every two seconds. */
export function useDeployments(key: string) {
  return useQuery({
    // The key is part of the cache key: what one key may see must not show under another.
    queryKey: ["deployments", key],
    queryFn: ({ signal }) => getJson<DeploymentPage>(`/api/v1/deployments?limit=${LIMIT}`, { key, signal }),
    // A refused key stays refused: asking again every two seconds would only fill the audit log.
    refetchInterval: (query) => (isRefusal(query.state.error) ? false : POLL_MS),
  });
}

export function isRefusal(error: Error | null): error is RequestError {
  return error instanceof RequestError && (error.status === 401 || error.status === 403);
}
