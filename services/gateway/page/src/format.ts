/** How numbers, instants and ages are written on the page. */

const SPACES = "\u202f";

/** Writes a number on its own: as many decimals as its size leaves worth reading. */
export function formatValue(value: number | null): string {
  if (value === null) return "—";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return group(String(value));
  return group(value.toFixed(decimalsFor(Math.abs(value))));
}

const decimalsFor = (size: number): number => (size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3);

const DOUBLE_POINT: Record<string, string> = { "0": "moving", "1": "open", "2": "closed", "3": "invalid" };

interface Shown {
  kind: string | null;
  definition: { data_type?: string; scale?: number | null; value_map?: Record<string, string> | null };
  peak: number;
}

/** Writes a point's value: the word its value map has, yes or no for a bool, else the number. */
export function showValue(point: Shown, value: number | string | null): string {
  if (value === null) return "—";
  if (typeof value === "string") return value;
  const words = point.definition.data_type === "double_point" ? DOUBLE_POINT : {};
  const word = (point.definition.value_map ?? words)[String(value)];
  if (word !== undefined) return word;
  if (point.kind === "C" && (value === 0 || value === 1)) return value ? "on" : "off";
  if (point.definition.data_type === "bool") return value === 1 ? "yes" : value === 0 ? "no" : String(value);
  return group(value.toFixed(decimalsOf(point)));
}

/** A point keeps its number of decimals: those its scale can give, fewer when its values are large. */
function decimalsOf({ definition, peak }: Shown): number {
  const scale = definition.scale ?? 1;
  const integer = definition.data_type?.includes("int") ?? false;
  const given = scale < 1 ? Math.ceil(-Math.log10(scale) - 1e-9) : integer ? 0 : 3;
  return Math.min(given, decimalsFor(Math.max(peak, 1)));
}

/** Puts a thin space between thousands and writes a true minus sign. */
function group(text: string): string {
  const [whole = "", fraction] = text.replace("-", "").split(".");
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, SPACES) : whole;
  const sign = text.startsWith("-") && Number(text) !== 0 ? "\u2212" : "";
  return sign + grouped + (fraction === undefined ? "" : "." + fraction);
}

/** Writes an age in the largest unit that still says something. */
export function formatAge(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.floor(s)} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const day = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short" });

/** Writes an instant as the time of day, with the date when it is not today's. */
export function formatInstant(ms: number, now: number): string {
  const at = new Date(ms);
  const today = new Date(now).toDateString() === at.toDateString();
  return today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
}

/** `bad:not_connected` becomes `bad: not connected`. */
export function formatQuality(quality: string): string {
  return quality.replace(":", ": ").replaceAll("_", " ");
}

/** Reads a number a person typed, also as the page writes it; a decimal comma counts where it is the only separator. */
export function parseNumber(text: string): number | null {
  const plain = text.trim().replace("\u2212", "-").replace(/(?<=\d)[ \u00a0\u202f](?=\d{3}(?!\d))/g, "");
  const dotted = /^[-+]?\d+,\d+$/.test(plain) ? plain.replace(",", ".") : plain;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(dotted) ? Number(dotted) : null;
}
