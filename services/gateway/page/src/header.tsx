/** Name, connection, alarms, user; and the banner that says when values are not live. */
import { useSignal } from "@preact/signals";
import { api, logout, user } from "./auth";
import { formatAge, formatInstant } from "./format";
import * as store from "./store";
import { theme, toggleTheme } from "./theme";

const STATE_WORDS = { live: "Live", connecting: "Connecting", down: "Stream down" } as const;

export function Header() {
  const state = store.streamState.value;
  const open = store.unacknowledged.value;
  return (
    <header>
      <h1>VoltageEMS</h1>
      <span class={`stream ${state}`} role="status">
        <i aria-hidden="true" />
        {STATE_WORDS[state]}
      </span>
      <a class={open ? "alarm-count open" : "alarm-count"} href="#alarms">
        {open ? `${open} unacknowledged` : "No new alarms"}
      </a>
      <span class="spring" />
      <time class="clock">{formatInstant(store.now.value, store.now.value)}</time>
      <button class="quiet" onClick={toggleTheme} aria-label={`Use ${theme.value === "dark" ? "light" : "dark"} colors`}>
        {theme.value === "dark" ? "Light" : "Dark"}
      </button>
      <UserMenu />
    </header>
  );
}

function UserMenu() {
  const who = user.value;
  const password = useSignal("");
  const current = useSignal("");
  const note = useSignal("");
  if (!who) return null;
  const save = async (event: SubmitEvent) => {
    event.preventDefault();
    try {
      await api("PUT", "/api/auth/me/password", {
        password: password.value,
        ...(who.has_password ? { current: current.value } : {}),
      });
      user.value = { ...who, has_password: true };
      note.value = "Password set";
      password.value = current.value = "";
    } catch (error) {
      note.value = (error as Error).message;
    }
  };
  return (
    <details class="user">
      <summary>
        {who.name} <small>{who.role}</small>
      </summary>
      <div class="menu panel">
        {who.has_password === false && <p class="hint">You have no password yet. Set one to log in without a link.</p>}
        <form onSubmit={save}>
          <input type="text" name="name" value={who.name} autocomplete="username" hidden />
          {who.has_password && (
            <label>
              Current password
              <input
                type="password"
                autocomplete="current-password"
                required
                value={current.value}
                onInput={(event) => (current.value = event.currentTarget.value)}
              />
            </label>
          )}
          <label>
            New password (12 characters or more)
            <input
              type="password"
              autocomplete="new-password"
              minlength={12}
              required
              value={password.value}
              onInput={(event) => (password.value = event.currentTarget.value)}
            />
          </label>
          <button>Set password</button>
          <p class="hint" role="status">
            {note}
          </p>
        </form>
        <button onClick={() => void logout()}>Log out</button>
      </div>
    </details>
  );
}

/** Says since when the values are not live. Nothing else on the page may look fresh meanwhile. */
export function Banner() {
  const state = store.streamState.value;
  const problem = store.definitionsProblem.value;
  const last = store.lastMessageAt.value;
  const offset = store.clockOffset.value;
  return (
    <div aria-live="assertive">
      {state === "down" && last !== null && (
        <p class="banner" id="stale-banner">
          <strong>Not live.</strong> Data as of {formatInstant(last + offset, store.now.value)} (
          {formatAge(store.now.value - last - offset)} ago): {store.streamReason.value}. Reconnecting…
        </p>
      )}
      {problem && <p class="banner mild">Some names could not be loaded. {problem}. Trying again…</p>}
    </div>
  );
}
