/** What the page knows. Every point has a signal of its own, so one change redraws one row. */
import { computed, type Signal, signal } from "@preact/signals";
import type { Alarm, Channel, Command, Kind, Model, PointDefinition, Sample, Template } from "./model";

export interface Point {
  ref: string;
  kind: Kind | null;
  channel: string;
  definition: PointDefinition;
  name: string;
  unit: string;
  sample: Signal<Sample>;
  /** The largest value seen, so that the number of decimals does not flutter. */
  peak: number;
}

export interface Device {
  id: string;
  name: string;
  protocol: string;
  interval_ms: number;
  points: Point[];
}

export interface ModelCard {
  id: string;
  name: string;
  class: string;
  points: Point[];
}

/** live: deltas arrive. connecting: never had any. down: had some, and they stopped. */
export type StreamState = "connecting" | "live" | "down";

export const devices = signal<Device[]>([]);
export const models = signal<ModelCard[]>([]);
export const definitionsProblem = signal("");
export const alarms = signal<ReadonlyMap<string, Alarm>>(new Map());
export const commands = signal<ReadonlyMap<string, Command>>(new Map());
export const streamState = signal<StreamState>("connecting");
export const streamReason = signal("");
export const lastMessageAt = signal<number | null>(null);
export const imageNumber = signal(0);
export const selected = signal<Point | null>(null);

/** Server's clock minus ours. Ages are the server's instants on the server's clock. */
export const clockOffset = signal(0);
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now() + clockOffset.peek();
}, 500);

const points = new Map<string, Point>();
const seen = new Map<string, Signal<Record<string, number>>>();
export const channelStates = new Map<string, Signal<string>>();
const early = new Map<string, Sample>();

export const pointOf = (ref: string): Point | undefined => points.get(ref);

/** What a reference is to a person: its device or model and its point, else the reference itself. */
export function nameOf(ref: string): string {
  const point = points.get(ref);
  if (!point) return ref;
  const owner =
    devices.value.find((one) => one.id === point.channel && point.kind)?.name ??
    models.value.find((one) => ref.startsWith(`modsrv:${one.id}:`))?.name;
  return owner ? `${owner} · ${point.name}` : point.name;
}

export const pointCount = computed(() => devices.value.reduce((n, device) => n + device.points.length, 0));

export function seenOf(channel: string): Signal<Record<string, number>> {
  let known = seen.get(channel);
  if (!known) seen.set(channel, (known = signal({})));
  return known;
}

export function channelState(channel: string): Signal<string> {
  let known = channelStates.get(channel);
  if (!known) channelStates.set(channel, (known = signal("")));
  return known;
}

/** The instant the point's block last answered; without a known block, the channel's oldest one. */
export function seenAt(point: Point): number | null {
  const blocks = seenOf(point.channel).value;
  const block = point.definition.block;
  const [, quality, at] = point.sample.value;
  // A change says as well that the device answered, and may come before the block's instant does.
  const changed = quality === "good" ? (at ?? 0) : 0;
  if (block !== undefined && blocks[block] !== undefined) return Math.max(blocks[block], changed);
  const instants = Object.values(blocks);
  return instants.length ? Math.max(Math.min(...instants), changed) : changed || null;
}

const TEXTS = new Set(["string", "text"]);

export const isText = (definition: PointDefinition): boolean => TEXTS.has(definition.data_type?.toLowerCase() ?? "");

/** How large a value is; a text has no size. */
const sizeOf = ([value]: Sample): number => (typeof value === "number" ? Math.abs(value) : 0);

function makePoint(ref: string, kind: Kind | null, channel: string, definition: PointDefinition, name: string): Point {
  const known = points.get(ref);
  const sample = known?.sample ?? signal<Sample>(early.get(ref) ?? [null, "", null]);
  early.delete(ref);
  const peak = Math.max(known?.peak ?? 0, sizeOf(sample.peek()));
  const point = { ref, kind, channel, definition, name, unit: definition.unit ?? "", sample, peak };
  points.set(ref, point);
  return point;
}

export function setChannels(channels: Channel[]): void {
  devices.value = channels
    .map((channel) => {
      const id = String(channel.id);
      const blocks = new Map(
        Object.entries(channel.blocks ?? {}).flatMap(([block, members]) => members.map((member) => [member, block])),
      );
      const list = (["T", "S", "A", "C"] as const).flatMap((kind) =>
        (channel.points?.[kind] ?? []).map((definition) => {
          const name = definition.name ?? definition.signal_name ?? `${kind} ${definition.id}`;
          const block = blocks.get(`${kind}:${definition.id}`);
          // A text's reference says that it is one.
          const type = isText(definition) ? "X" : kind;
          return makePoint(`comsrv:${id}:${type}:${definition.id}`, kind, id, { ...definition, block }, name);
        }),
      );
      return {
        id,
        name: channel.name,
        protocol: channel.protocol,
        interval_ms: channel.interval_ms ?? channel.polling?.interval_ms ?? 1000,
        points: list,
      };
    })
    .sort((a, b) => Number(a.id) - Number(b.id));
}

/** The reference a model's point is mapped to: in full, as "S:3", or a number of the template's kind. */
function sourceOf(model: Model, name: string, definition: { base_id?: number; kind?: Kind }): string {
  const offset = typeof model.mapping?.data_offset === "number" ? model.mapping.data_offset : 0;
  const mapped = model.mapping?.data?.[name] ?? (definition.base_id ?? 0) + offset;
  if (typeof mapped === "string" && mapped.startsWith("comsrv:")) return mapped;
  const member = typeof mapped === "string" && mapped.includes(":") ? mapped : `${definition.kind ?? "T"}:${mapped}`;
  return `comsrv:${model.mapping?.channel}:${member}`;
}

export function setModels(list: Model[], templates: Template[]): void {
  const byId = new Map(templates.map((template) => [template.id, template]));
  models.value = list.map((model) => {
    const template = byId.get(model.template);
    const names = template?.data_points ?? {};
    const channel = String(model.mapping?.channel ?? "");
    return {
      id: model.id,
      name: model.name,
      class: template?.class ?? model.template,
      points: Object.entries(names).map(([name, definition]) => {
        const source = points.get(sourceOf(model, name, definition));
        if (source && definition.value_map) source.definition.value_map = definition.value_map;
        const whole = { ...source?.definition, ...definition, id: name };
        return makePoint(`modsrv:${model.id}:${name}`, null, channel, whole, name.replaceAll("_", " "));
      }),
    };
  });
}

/** Takes one sample; a value that is absent stays what it was. */
export function setSample(ref: string, sample: Sample): void {
  const point = points.get(ref);
  if (!point) {
    early.set(ref, sample);
    return;
  }
  const before = point.sample.peek();
  const value = sample[0] ?? before[0];
  const next: Sample = [value, sample[1], sample[2] ?? before[2]];
  point.peak = Math.max(point.peak, sizeOf(next));
  if (next[0] !== before[0] || next[1] !== before[1] || next[2] !== before[2]) point.sample.value = next;
}

/** Takes a snapshot of some references: a point of theirs that it does not hold has no value. */
export function replaceSamples(refs: string[], samples: Record<string, Sample>): void {
  const heads = new Set(refs.filter((ref) => ref.endsWith(":*")).map((ref) => ref.slice(0, -1)));
  for (const [ref, point] of points) {
    if (ref in samples || heads.has(ref.slice(0, ref.lastIndexOf(":") + 1))) {
      point.sample.value = samples[ref] ?? [null, "", null];
      point.peak = Math.max(point.peak, sizeOf(point.sample.peek()));
    }
  }
  for (const [ref, sample] of Object.entries(samples)) if (!points.has(ref)) early.set(ref, sample);
}

export function mergeAlarms(changed: Alarm[], replace = false): void {
  const next = new Map(replace ? [] : alarms.value);
  for (const alarm of changed) {
    if (alarm.status === "Resolved") next.delete(alarm.id);
    else next.set(alarm.id, alarm);
  }
  alarms.value = next;
}

const KEPT_COMMANDS = 50;

export function mergeCommands(changed: Command[], replace = false): void {
  const next = new Map(replace ? [] : commands.value);
  for (const command of changed) next.set(command.id, command);
  const newest = [...next.values()].sort((a, b) => (b.created_at_ms ?? 0) - (a.created_at_ms ?? 0));
  commands.value = new Map(newest.slice(0, KEPT_COMMANDS).map((command) => [command.id, command]));
}

const LEVELS = ["Critical", "Major", "Minor", "Warning", "Info"];
export const levelRank = (level: string): number => LEVELS.indexOf(level);

/** Shelved, suppressed or out of service: it stands, and asks nobody. */
export const isMasked = (alarm: Alarm): boolean => !!(alarm.shelved || alarm.suppressed || alarm.out_of_service);
/** It wants to be acknowledged. An Info is an event, and asks for nothing. */
export const asks = (alarm: Alarm): boolean =>
  (alarm.status === "New" || alarm.status === "Returned") && !isMasked(alarm) && alarm.level !== "Info";

/** What asks first, then by level, then the newest; what is kept quiet last. */
export const alarmList = computed(() =>
  [...alarms.value.values()].sort(
    (a, b) =>
      Number(isMasked(a)) - Number(isMasked(b)) ||
      Number(!asks(a)) - Number(!asks(b)) ||
      levelRank(a.level) - levelRank(b.level) ||
      Number(b.created_at_ms) - Number(a.created_at_ms),
  ),
);
/** The system alarm that stands while more alarms come than a person can take in. */
export const flood = computed(() => alarmList.value.find((alarm) => alarm.source === "system:flood"));
export const unacknowledged = computed(() => alarmList.value.filter(asks).length);
