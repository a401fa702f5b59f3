import { Icon, type IconName } from "./icons";
import classes from "./StatusText.module.css";

export type Tone = "good" | "busy" | "warning" | "bad" | "reverted" | "quiet";

interface StatusTextProps {
  tone: Tone;
  icon: IconName;
  children: string;
}

/** A status as icon, text and colour, so that none of the three has to be seen to know it. */
export function StatusText({ tone, icon, children }: StatusTextProps) {
  return (
    <span className={classes.status} data-tone={tone}>
      <Icon name={icon} size={15} className={classes.icon} />
      {children}
    </span>
  );
}
