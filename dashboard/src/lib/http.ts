/** A problem document (RFC 9457) as the server sends it. */
export interface Problem {
  title?: string;
  detail?: string;
  code?: string;
}

/** An answer that is not the wanted one. `status` is 0 when no answer came at all. */
export class RequestError extends Error {
  readonly status: number;
  readonly requestId: string | null;

  constructor(message: string, status: number, requestId: string | null = null) {
    super(message);
    this.name = "RequestError";
    this.status = status;
    this.requestId = requestId;
  }
}

interface GetOptions {
  key?: string;
  signal?: AbortSignal;
  /** Statuses besides 2xx whose JSON body is an answer, not an error. */
  accept?: readonly number[];
}

const PATIENCE_MS = 10_000;

/** GET a JSON document from the server this page came from. Throws RequestError. */
export async function getJson<T>(path: string, { key, signal, accept = [] }: GetOptions): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (key !== undefined) headers.Authorization = `Bearer ${key}`;
  const patience = AbortSignal.timeout(PATIENCE_MS);

  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      headers,
      cache: "no-store",
      signal: signal === undefined ? patience : AbortSignal.any([signal, patience]),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const reason = patience.aborted ? `no answer within ${PATIENCE_MS / 1000} s` : "it cannot be reached";
    throw new RequestError(`The server did not answer: ${reason}.`, 0);
  }

  const requestId = response.headers.get("x-request-id");
  if (!response.ok && !accept.includes(response.status)) {
    throw new RequestError(explain(response.status, text), response.status, requestId);
  }
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new RequestError(
      `${path} answered with something other than JSON; is this address a Trimtab server?`,
      response.status,
      requestId,
    );
  }
}

function explain(status: number, text: string): string {
  try {
    const problem = JSON.parse(text) as Problem;
    const message = problem.detail ?? problem.title;
    if (message) return message;
  } catch {
    // Not a problem document (a proxy's page, say): the status is all there is to tell.
  }
  return `The server answered with status ${status}.`;
}
