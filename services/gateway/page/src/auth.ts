/**
 * Log-in and calls of the API.
 *
 * The access token lives in memory only, where no other page and no later visitor
 * finds it. The refresh token is a cookie that scripts can't read.
 */
import { signal } from "@preact/signals";

export type Role = "viewer" | "operator" | "engineer" | "admin";
export interface User {
  name: string;
  role: Role;
  has_password?: boolean;
}
interface Session {
  access_token: string;
  expires_in_s: number;
  user: User;
}

const RANK: Record<Role, number> = { viewer: 0, operator: 1, engineer: 2, admin: 3 };

/** `undefined` while it is being found out, `null` when nobody is logged in. */
export const user = signal<User | null | undefined>(undefined);
let token = "";
let renewal: number | undefined;
const listeners: ((token: string) => void)[] = [];

export function atLeast(role: Role): boolean {
  const who = user.value;
  return !!who && RANK[who.role] >= RANK[role];
}

export const accessToken = (): string => token;

/** Tells a listener each time the access token is renewed. */
export function onRenewal(listener: (token: string) => void): void {
  listeners.push(listener);
}

/** A refusal in the form of RFC 9457. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = await response.json();
    return new Problem(response.status, body.code ?? "", body.detail || body.title);
  } catch {
    return new Problem(response.status, "", `The server answered ${response.status}`);
  }
}

function take(session: Session): void {
  token = session.access_token;
  user.value = session.user;
  clearTimeout(renewal);
  renewal = window.setTimeout(() => void refresh(), Math.max(5, session.expires_in_s * 0.7) * 1000);
  for (const listener of listeners) listener(token);
}

async function authenticate(path: string, body: unknown): Promise<void> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await problemOf(response);
  take(await response.json());
}

export const loginByName = (name: string, password: string) =>
  authenticate("/api/auth/login", { name, password, cookie: true });

export const loginByLink = (link: string) => authenticate("/api/auth/login", { link, cookie: true });

/** Renews the access token; only a refusal logs out, a gateway that is away does not. */
export async function refresh(): Promise<boolean> {
  try {
    await authenticate("/api/auth/refresh", { cookie: true });
    return true;
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      token = "";
      user.value = null;
      return false;
    }
    clearTimeout(renewal);
    renewal = window.setTimeout(() => void refresh(), 3000);
    return false;
  }
}

export async function logout(): Promise<void> {
  clearTimeout(renewal);
  try {
    await api("POST", "/api/auth/logout", {});
  } finally {
    token = "";
    user.value = null;
  }
}

/** Calls the API as the user; an expired token is renewed once. `seen` is the version that a change is made of. */
export async function api<T>(method: string, path: string, body?: unknown, seen?: number): Promise<T> {
  const send = () =>
    fetch(path, {
      method,
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(seen === undefined ? {} : { "If-Match": `"${seen}"` }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  let response: Response;
  try {
    response = await send();
    if (response.status === 401 && (await refresh())) response = await send();
  } catch {
    throw new Problem(0, "UNAVAILABLE", "The gateway can't be reached");
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

/** Takes the one-time link out of the address before anything else can see it. */
export function takeLink(): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const link = fragment.get("link") ?? fragment.get("login") ?? new URLSearchParams(location.search).get("link");
  if (link !== null) history.replaceState(null, "", "/");
  return link;
}
