/** A button that asks for a reason before it acts: the reason is kept with the version. */
import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Problem, useAct, WhyInput } from "./act";

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
  const { busy, problem, act } = useAct();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void act(async () => {
      await run(reason.value.trim() || undefined);
      open.value = false;
      reason.value = "";
    });
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
      {warning ? <span>{warning}</span> : <WhyInput label="Reason" text={reason} input={input} />}
      <button class="primary" disabled={busy.value}>
        {action}
      </button>
      <button type="button" onClick={() => (open.value = false)}>
        Cancel
      </button>
      <Problem text={problem} />
    </form>
  );
}
