/** Light or dark: the system's wish, until the operator chooses. */
import { signal } from "@preact/signals";

type Theme = "light" | "dark";
const KEY = "theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const chosen = localStorage.getItem(KEY) as Theme | null;

export const theme = signal<Theme>(chosen ?? (system.matches ? "dark" : "light"));

/** Sets the colors first: who listens to the signal reads them. */
export function applyTheme(wanted: Theme = theme.peek()): void {
  document.documentElement.dataset.theme = wanted;
  theme.value = wanted;
}

export function toggleTheme(): void {
  const wanted = theme.peek() === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, wanted);
  applyTheme(wanted);
}

system.addEventListener("change", () => {
  if (!localStorage.getItem(KEY)) applyTheme(system.matches ? "dark" : "light");
});
