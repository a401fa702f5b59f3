/** What stands where a value is missing; never a zero. */
export const MISSING = "—";

const percent = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short",
});

export function formatPercentage(value: number | null | undefined): string {
  return value === null || value === undefined ? MISSING : `${percent.format(value)} %`;
}

/** Time of day with its zone named. */
export function formatTime(time: Date): string {
  return clock.format(time);
}

/** `rolled_back` as people read it: "Rolled back". */
export function humanize(word: string): string {
  const spaced = word.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
