/** Light or dark: the system's wish, until the operator chooses. */
import { signal } from "@preact/signals";

type Theme = "light" | "dark";
const KEY = "theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const chosen = localStorage.getItem(KEY) as Theme | null;

export const theme = signal<Theme>(chosen ?? (system.matches ? "dark" : "light"));

export function applyTheme(): void {
  document.documentElement.dataset.theme = theme.value;
}

export function toggleTheme(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, theme.value);
  applyTheme();
}

system.addEventListener("change", () => {
  if (localStorage.getItem(KEY)) return;
  theme.value = system.matches ? "dark" : "light";
  applyTheme();
});
