import type { IconName } from "../../../components/icons";
import type { Tone } from "../../../components/StatusText";
import type { Deployment } from "../../../lib/api";

interface Look {
  tone: Tone;
  icon: IconName;
}

const LOOKS: Record<Deployment["status"], Look> = {
  deploying: { tone: "busy", icon: "progress" },
  healthy: { tone: "good", icon: "check" },
  unhealthy: { tone: "warning", icon: "warning" },
  failed: { tone: "bad", icon: "cross" },
  rolled_back: { tone: "reverted", icon: "undo" },
  retired: { tone: "quiet", icon: "archive" },
};

export function lookOf(status: Deployment["status"]): Look {
  return LOOKS[status];
}
