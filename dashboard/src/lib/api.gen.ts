export interface paths {
  "/api/v1/deployments": {
    get: {
      responses: {
        200: {
          content: {
            "application/json": {
              items: components["schemas"]["Deployment"][];
              next_cursor: string | null;
            };
          };
        };
      };
    };
  };
}
export interface components {
  schemas: {
    Deployment: {
      id: string;
      deployment_name: string;
      model_name: string;
      version_tag: string;
      environment: string;
      deployment_type: string;
      status: string;
      status_reason: string | null;
      rollout_phase: string;
      traffic_percentage: number;
      endpoint_url: string | null;
    };
  };
}
