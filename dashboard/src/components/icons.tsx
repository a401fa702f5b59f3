import type { SVGProps } from "react";

export type IconName =
  | "check"
  | "warning"
  | "cross"
  | "progress"
  | "undo"
  | "archive"
  | "pulse"
  | "clock"
  | "refresh"
  | "lock"
  | "inbox"
  | "key";

const PATHS: Record<IconName, string> = {
  check: "M5 12.5l4.5 4.5L19 7.5",
  warning: "M12 4L2.8 19.5h18.4zM12 10v4M12 17v.01",
  cross: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  progress: "M12 4a8 8 0 1 1-7.4 5",
  undo: "M8.5 5L4 9.5 8.5 14M4 9.5h10a5.5 5.5 0 0 1 0 11h-3",
  archive: "M4 5h16v4H4zM5.5 9v10h13V9M10 13h4",
  pulse: "M3 12h4l3-7 4 14 3-7h4",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 2",
  refresh: "M19.5 11A7.5 7.5 0 0 0 6 7L4 9M4 4.5V9h4.5M4.5 13A7.5 7.5 0 0 0 18 17l2-2M20 19.5V15h-4.5",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  inbox: "M4 13l3-8h10l3 8v6H4zM4 13h4.5l1.5 2.5h4l1.5-2.5H20",
  key: "M15 4a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM11.5 12.5L4 20M7 17l2.5 2.5",
};

interface IconProps extends SVGProps<SVGSVGElement> {
  name: IconName;
  size?: number;
}

/** Decoration beside a text that says the same, hence hidden from screen readers. */
export function Icon({ name, size = 18, ...rest }: IconProps) {
  return (
    <svg
      aria-hidden="true"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth={2.4}
      strokeLinecap="round"
      strokeLinejoin="round"
      {...rest}
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
