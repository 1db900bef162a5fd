/** Live points, grouped by device. */
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { atLeast } from "./auth";
import { Control } from "./control";
import { formatAge, formatInstant, showValue } from "./format";
import { gradeOf, Quality } from "./quality";
import * as store from "./store";
import type { Device, Point } from "./store";

// A point is old when it missed more than three polls, and never before three seconds.
const MISSED_POLLS = 3;
const MIN_OLD_MS = 3000;
const MIN_CARD_PX = 380;
const CARD_HEAD_ROWS = 4;

/** Spreads devices over columns by how many points they have, so that a card never moves while one looks at it. */
function spread(list: Device[], columns: number): Device[][] {
  const spread = Array.from({ length: columns }, () => ({ rows: 0, list: [] as Device[] }));
  for (const device of list) {
    const shortest = spread.reduce((best, column) => (column.rows < best.rows ? column : best));
    shortest.list.push(device);
    shortest.rows += device.points.length + CARD_HEAD_ROWS;
  }
  return spread.map((column) => column.list);
}

export function DeviceList() {
  const list = store.devices.value;
  const filter = useSignal("");
  const columns = useSignal(1);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => {
      columns.value = Math.max(1, Math.floor((entry?.contentRect.width ?? 0) / MIN_CARD_PX));
    });
    watcher.observe(box.current!);
    return () => watcher.disconnect();
  }, []);
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (
    <section class="devices" aria-label="Devices">
      <div class="bar">
        <h2>Devices</h2>
        <input
          type="search"
          placeholder="Find a point"
          aria-label="Find a point"
          value={filter.value}
          onInput={(event) => (filter.value = event.currentTarget.value)}
        />
      </div>
      <div class={`cards ${store.streamState.value === "live" ? "" : "stale"}`} ref={box}>
        {spread(list, columns.value).map((column, index) => (
          <div key={index} class="column">
            {column.map((device) => (
              <DeviceCard key={device.id} device={device} words={words} />
            ))}
          </div>
        ))}
        {!list.length && !store.definitionsProblem.value && <p class="empty">No devices are configured.</p>}
      </div>
    </section>
  );
}

function DeviceCard({ device, words }: { device: Device; words: string[] }) {
  const match = (point: Point) => {
    const text = `${device.name} ${point.name} ${point.ref}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const points = device.points.filter(match);
  const measured = points.filter((point) => point.kind === "T" || point.kind === "S");
  const controls = points.filter((point) => point.kind === "A" || point.kind === "C");
  const state = store.channelState(device.id).value;
  if (!points.length && words.length) return null;
  return (
    <article class="panel device">
      <h3>
        {device.name}
        <small>
          {device.id} · {device.protocol}
        </small>
        <DeviceState state={state} />
      </h3>
      {measured.length > 0 && (
        <table>
          <thead class="visually-hidden">
            <tr>
              <th>Point</th>
              <th>Value</th>
              <th>Unit</th>
              <th>Quality</th>
              <th>Age</th>
            </tr>
          </thead>
          <tbody>
            {measured.map((point) => (
              <Row key={point.ref} point={point} interval={device.interval_ms} />
            ))}
          </tbody>
        </table>
      )}
      {controls.length > 0 && (
        <div class="controls">
          <h4>{atLeast("operator") ? "Set-points and controls" : "Set-points and controls (read only)"}</h4>
          {controls.map((point) => (
            <Control key={point.ref} point={point} device={device.name} />
          ))}
        </div>
      )}
    </article>
  );
}

const USUAL_STATES = new Set(["", "connected", "running", "online"]);

function DeviceState({ state }: { state: string }) {
  if (store.streamState.value !== "live" || USUAL_STATES.has(state)) return null;
  return <span class="device-state">{state.replaceAll("_", " ")}</span>;
}

function Row({ point, interval }: { point: Point; interval: number }) {
  const [value, quality, at] = point.sample.value;
  const grade = gradeOf(quality);
  // A text has no history to draw.
  const isText = point.ref.includes(":X:");
  const chosen = store.selected.value?.ref === point.ref;
  return (
    <tr class={`${grade} ${chosen ? "chosen" : ""}`} data-ref={point.ref}>
      <th scope="row">
        {isText ? (
          <span title={point.ref}>{point.name}</span>
        ) : (
          <button
            class="name"
            title={`${point.ref}${point.definition.description ? `: ${point.definition.description}` : ""}`}
            aria-pressed={chosen}
            onClick={() => (store.selected.value = chosen ? null : point)}
          >
            {point.name}
          </button>
        )}
      </th>
      <td class="value" title={at === null ? "" : `changed ${formatInstant(at, store.now.peek())}`}>
        {showValue(point, value)}
      </td>
      <td class="unit">{point.unit}</td>
      <td class="quality-cell">
        <Quality point={point} />
      </td>
      <Age point={point} interval={interval} />
    </tr>
  );
}

function Age({ point, interval }: { point: Point; interval: number }) {
  const age = useComputed(() => {
    const at = store.seenAt(point);
    return at === null ? null : store.now.value - at;
  });
  const text = useComputed(() => (age.value === null ? "—" : formatAge(age.value)));
  const old = useComputed(() => (age.value ?? 0) > Math.max(MIN_OLD_MS, MISSED_POLLS * interval));
  return (
    <td class={old.value ? "age old" : "age"} title="since the device last answered">
      {text}
    </td>
  );
}
