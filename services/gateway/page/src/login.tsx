/** Log-in by name and password; a one-time link needs no form. */
import { signal, useSignal } from "@preact/signals";
import { loginByName } from "./auth";

export const loginProblem = signal("");

export function Login() {
  const busy = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    busy.value = true;
    loginProblem.value = "";
    try {
      await loginByName(String(data.get("name")), String(data.get("password")));
    } catch (error) {
      loginProblem.value = (error as Error).message;
    } finally {
      busy.value = false;
    }
  };
  return (
    <main class="login">
      <form class="panel" onSubmit={submit}>
        <h1>VoltageEMS</h1>
        <label>
          Name
          <input name="name" autocomplete="username" required autofocus />
        </label>
        <label>
          Password
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        <button class="primary" disabled={busy.value}>
          Log in
        </button>
        <p class="problem" role="alert">
          {loginProblem}
        </p>
        <p class="hint">
          No password yet? <code>voltage up</code> prints a link that logs you in once.
        </p>
      </form>
    </main>
  );
}
