import type { IconName } from "../../../components/icons";
import type { Tone } from "../../../components/StatusText";

interface Look {
  tone: Tone;
  icon: IconName;
}

const LOOKS: Record<string, Look> = {
  deploying: { tone: "busy", icon: "progress" },
  healthy: { tone: "good", icon: "check" },
  unhealthy: { tone: "warning", icon: "warning" },
  failed: { tone: "bad", icon: "cross" },
  rolled_back: { tone: "reverted", icon: "undo" },
  retired: { tone: "quiet", icon: "archive" },
};

export function lookOf(status: string): Look {
  return LOOKS[status] ?? { tone: "quiet", icon: "clock" };
}
