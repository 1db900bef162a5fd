/** A button that asks for a reason before it acts: the reason is kept with the version. */
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Ask {
  label: string;
  /** What is done, as the button that does it says. */
  action: string;
  run: (reason: string | undefined) => Promise<unknown>;
  /** What to know first, where no reason is kept. */
  warning?: string;
}

export function AskReason({ label, action, run, warning }: Ask) {
  const open = useSignal(false);
  const reason = useSignal("");
  const problem = useSignal("");
  const busy = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      await run(reason.value.trim() || undefined);
      open.value = false;
      reason.value = "";
    } catch (error) {
      problem.value = (error as Error).message;
    } finally {
      busy.value = false;
    }
  };
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.focus(), [open.value]);
  if (!open.value)
    return (
      <button type="button" onClick={() => (open.value = true)}>
        {`${label}…`}
      </button>
    );
  return (
    <form
      class="confirm"
      aria-label={label}
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && (open.value = false)}
    >
      {warning ? (
        <span>{warning}</span>
      ) : (
        <input
          aria-label="Reason"
          placeholder="Why?"
          maxLength={500}
          ref={input}
          value={reason.value}
          onInput={(event) => (reason.value = event.currentTarget.value)}
        />
      )}
      <button class="primary" disabled={busy.value}>
        {action}
      </button>
      <button type="button" onClick={() => (open.value = false)}>
        Cancel
      </button>
      {problem.value && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
