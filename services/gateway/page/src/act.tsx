/** What every form of the page shares: busy while it acts, the problem said, a field for the reason. */
import { useSignal } from "@preact/signals";
import type { ReadonlySignal, Signal } from "@preact/signals";
import type { Ref } from "preact";

export function useAct() {
  const busy = useSignal(false);
  const problem = useSignal("");
  const act = async (work: () => Promise<unknown>) => {
    busy.value = true;
    problem.value = "";
    try {
      await work();
    } catch (error) {
      problem.value = (error as Error).message;
    } finally {
      busy.value = false;
    }
  };
  return { busy, problem, act };
}

export function Problem({ text }: { text: ReadonlySignal<string> }) {
  if (!text.value) return null;
  return (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}

interface Words {
  label: "Comment" | "Reason";
  text: Signal<string>;
  input?: Ref<HTMLInputElement>;
}

export function WhyInput({ label, text, input }: Words) {
  return (
    <input
      aria-label={label}
      placeholder="Why?"
      maxLength={500}
      ref={input}
      value={text.value}
      onInput={(event) => (text.value = event.currentTarget.value)}
    />
  );
}

/** What was written there, left out where it is nothing. */
export const commentOf = (text: Signal<string>): { comment?: string } => {
  const comment = text.value.trim();
  return comment ? { comment } : {};
};
