import type { paths } from "./api.gen";

// Types are reached through the path, not through the name of a schema, so that they follow the server's document.
export type DeploymentPage =
  paths["/api/v1/deployments"]["get"]["responses"][200]["content"]["application/json"];
export type Deployment = DeploymentPage["items"][number];
