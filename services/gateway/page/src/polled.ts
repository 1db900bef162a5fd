/** Reads again and again while it is on the page and the stream lives; an error is said and tried again. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

export function usePolled<T>(read: () => Promise<T>, pause: number, key: string) {
  const found = useSignal<T | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    let gone = false;
    let timer: number | undefined;
    const turn = async () => {
      try {
        const next = await read();
        if (gone) return;
        found.value = next;
        problem.value = "";
      } catch (error) {
        if (gone) return;
        problem.value = (error as Error).message;
      }
      timer = window.setTimeout(turn, pause);
    };
    void turn();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [key]);
  return { found, problem };
}
