import { useSyncExternalStore } from "react";

// The key lives in this tab only: sessionStorage is neither shared with other tabs nor kept when the tab closes.
const SLOT = "trimtab.api-key";
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The API key entered in this tab, or null. */
export function useApiKey(): string | null {
  return useSyncExternalStore(subscribe, () => sessionStorage.getItem(SLOT));
}

export function signIn(key: string): void {
  sessionStorage.setItem(SLOT, key);
  for (const listener of listeners) listener();
}

export function signOut(): void {
  sessionStorage.removeItem(SLOT);
  for (const listener of listeners) listener();
}
