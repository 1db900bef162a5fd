/** What conditions and actions say, with the names and units of points. */
import { formatValue, showValue } from "./format";
import type { RuleAction } from "./model";
import * as store from "./store";

/** A value as its point shows it; a reference is the name of its point. */
export function textOf(ref: string | undefined, value: unknown): string {
  if (Array.isArray(value)) return value.map((one) => textOf(ref, one)).join(", ");
  if (value !== null && typeof value === "object" && "source" in value) return store.nameOf(String(value.source));
  if (typeof value !== "number") return String(value);
  const point = ref ? store.pointOf(ref) : undefined;
  return point ? `${showValue(point, value)} ${point.unit}`.trim() : formatValue(value);
}

/** What an action would do, or what came of it. */
export function actionText(action: RuleAction): string {
  const what = action.would ? wouldText(action.would) : action.type.replaceAll("_", " ");
  const came = action.problem ?? action.result;
  return `${what}${came ? `: ${came}` : ""}${action.over ? `, over ${action.over}` : ""}`;
}

/** `command comsrv:1004:C:1 to 1` becomes `command Genset · Start to on`. */
function wouldText(would: string): string {
  const [, ref, value] = /^command (\S+) to (\S+)$/.exec(would) ?? [];
  return ref && value ? `command ${store.nameOf(ref)} to ${textOf(ref, Number(value))}` : would;
}
