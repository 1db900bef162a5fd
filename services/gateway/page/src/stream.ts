/** The live stream: subscribe, snapshot, deltas; and what is said when it stops. */
import { batch } from "@preact/signals";
import { accessToken, api, onRenewal, refresh, user } from "./auth";
import type { Alarm, Channel, Command, Model, Page, Sample, Template } from "./model";
import * as store from "./store";

interface Message {
  op: string;
  seq?: number;
  now_ms?: number;
  refs?: string[];
  points?: Record<string, Sample>;
  seen?: Record<string, Record<string, number>>;
  channels?: Record<string, { state?: string }>;
  alarms?: Alarm[];
  commands?: Command[];
  definitions?: boolean;
  reason?: string;
  detail?: string;
}

const INTERVAL_MS = 250;
// The gateway says something at least every second; three silent seconds are a stream that is down.
const SILENCE_MS = 3500;
const EXPIRED = 4401;

let socket: WebSocket | null = null;
let attempt = 0;
let retry: number | undefined;
let heardAt = 0;

/** Loads every page of a list. */
async function all<T>(path: string): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined = "";
  do {
    const query: string = `limit=200${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`;
    const page: Page<T> = await api("GET", `${path}?${query}`);
    items.push(...page.items);
    cursor = page.cursor;
  } while (cursor);
  return items;
}

/** Loads names, units and ranges; values come over the stream alone. */
export async function loadDefinitions(): Promise<void> {
  const problems: string[] = [];
  try {
    const list = await all<Channel>("/api/channels");
    const whole = await Promise.all(
      list.map((channel) => (channel.points ? channel : api<Channel>("GET", `/api/channels/${channel.id}`))),
    );
    store.setChannels(whole);
  } catch (error) {
    problems.push(`Devices: ${(error as Error).message}`);
  }
  try {
    store.setModels(await all<Model>("/api/models"), await all<Template>("/api/templates"));
  } catch (error) {
    problems.push(`Models: ${(error as Error).message}`);
  }
  store.definitionsProblem.value = problems.join(" · ");
  if (problems.length) setTimeout(() => user.peek() && void loadDefinitions(), 5000);
  else subscribe();
}

function subscribe(): void {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const refs = [
    ...store.devices.peek().map((device) => `comsrv:${device.id}:*`),
    ...store.models.peek().map((model) => `modsrv:${model.id}:*`),
    "alarms",
    "commands",
  ];
  socket.send(JSON.stringify({ op: "subscribe", refs, interval_ms: INTERVAL_MS }));
}

function take(message: Message): void {
  heardAt = Date.now();
  if (message.now_ms) learnClock(message.now_ms);
  // "Data as of" is the last instant at which the values were known to be live.
  if (message.op === "snapshot" || (store.streamState.peek() === "live" && message.op !== "stale")) {
    store.lastMessageAt.value = heardAt;
  }
  if (message.op === "stale") {
    down(message.reason ?? "the gateway lost Redis");
    return;
  }
  if (message.op === "error") {
    store.streamReason.value = message.detail ?? "";
    return;
  }
  if (message.op !== "snapshot" && message.op !== "delta") return;
  const whole = message.op === "snapshot";
  if (message.seq) store.imageNumber.value = message.seq;
  if (whole) {
    attempt = 0;
    store.replaceSamples(message.refs ?? [], message.points ?? {});
    store.streamState.value = "live";
    store.streamReason.value = "";
  } else if (store.streamState.peek() === "live") {
    for (const [ref, sample] of Object.entries(message.points ?? {})) store.setSample(ref, sample);
  }
  for (const [channel, blocks] of Object.entries(message.seen ?? {})) {
    const known = store.seenOf(channel);
    known.value = whole ? blocks : { ...known.peek(), ...blocks };
  }
  for (const [channel, status] of Object.entries(message.channels ?? {})) {
    store.channelState(channel).value = status.state ?? "";
  }
  if (message.alarms) store.mergeAlarms(message.alarms, whole);
  if (message.commands) store.mergeCommands(message.commands, whole);
}

/** The message with the least delay shows the offset best: a late one can only make it smaller. */
function learnClock(serverMs: number): void {
  const offset = serverMs - Date.now();
  const known = store.clockOffset.peek();
  if (offset > known || known - offset > 2000 || known === 0) store.clockOffset.value = offset;
}

function down(reason: string): void {
  store.streamReason.value = reason;
  if (store.streamState.peek() === "live") store.streamState.value = "down";
}

function connect(): void {
  clearTimeout(retry);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = new WebSocket(`${scheme}://${location.host}/ws`);
  socket = mine;
  mine.onopen = () => {
    heardAt = Date.now();
    mine.send(JSON.stringify({ op: "auth", token: accessToken() }));
    subscribe();
  };
  mine.onmessage = (event) => {
    if (socket === mine) batch(() => take(JSON.parse(event.data as string) as Message));
  };
  mine.onclose = async (event) => {
    if (socket !== mine) return;
    socket = null;
    down("the connection to the gateway is lost");
    if (!user.peek()) return;
    if (event.code === EXPIRED && !(await refresh()) && !user.peek()) return;
    attempt += 1;
    const pause = Math.min(10_000, 300 * 2 ** Math.min(attempt, 6)) * (0.7 + 0.6 * Math.random());
    retry = window.setTimeout(connect, pause);
  };
}

export function start(): void {
  connect();
  void loadDefinitions();
}

export function stop(): void {
  clearTimeout(retry);
  const mine = socket;
  socket = null;
  mine?.close();
  store.streamState.value = "connecting";
}

onRenewal((token) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ op: "auth", token }));
});

// A half-open connection says nothing at all, so silence itself is the sign.
setInterval(() => {
  if (socket?.readyState !== WebSocket.OPEN || Date.now() - heardAt <= SILENCE_MS) return;
  down("the gateway has gone silent");
  const dead = socket;
  socket = null;
  dead.close();
  retry = window.setTimeout(connect, 500);
}, 500);

window.addEventListener("online", () => {
  if (!socket && user.peek()) connect();
});
