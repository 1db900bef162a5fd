/** Alarms that are not closed, and the button that says "seen". */
import { useSignal } from "@preact/signals";
import { api, atLeast } from "./auth";
import { formatAge, formatInstant, formatQuality, showValue } from "./format";
import type { Alarm } from "./model";
import * as store from "./store";

// Shape, number and word stand for the level besides the color.
const MARKS: Record<string, string> = { Critical: "■", Major: "▲", Minor: "◆", Warning: "●", Info: "○" };
const STATE_WORDS: Record<string, string> = {
  New: "New",
  Acknowledged: "Acknowledged",
  Returned: "Returned, not acknowledged",
};

export function AlarmPanel() {
  const list = store.alarmList.value;
  const live = store.streamState.value === "live";
  return (
    <section class={`panel alarms ${live ? "" : "stale"}`} id="alarms" tabIndex={-1} aria-label="Alarms">
      <div class="bar">
        <h2>Alarms</h2>
        <span class="hint">{list.length ? `${list.length} open, ${store.unacknowledged.value} to acknowledge` : ""}</span>
      </div>
      {list.length === 0 && (
        <p class="empty">{live ? "No alarm is open." : "Alarms are not known while the stream is down."}</p>
      )}
      <ul>
        {list.map((alarm) => (
          <Row key={alarm.id} alarm={alarm} />
        ))}
      </ul>
    </section>
  );
}

function sourceName(source: string): string {
  const point = store.pointOf(source);
  if (!point) return source;
  const device = store.devices.value.find((one) => one.id === point.channel);
  return device ? `${device.name} · ${point.name}` : point.name;
}

function valueText(alarm: Alarm): string {
  if (alarm.value === undefined || alarm.value === null || alarm.value === "") return "";
  const point = store.pointOf(alarm.source);
  const value = Number(alarm.value);
  if (Number.isNaN(value)) return String(alarm.value);
  return point ? `${showValue(point, value)} ${point.unit}`.trim() : String(value);
}

function Row({ alarm }: { alarm: Alarm }) {
  const busy = useSignal(false);
  const problem = useSignal("");
  const fresh = alarm.status !== "Acknowledged" && !alarm.shelved;
  const acknowledge = async () => {
    busy.value = true;
    problem.value = "";
    try {
      store.mergeAlarms([await api<Alarm>("POST", `/api/alarms/${alarm.id}/acknowledge`, {})]);
    } catch (error) {
      problem.value = (error as Error).message;
    } finally {
      busy.value = false;
    }
  };
  const since = Number(alarm.created_at_ms);
  const count = Number(alarm.count ?? 1);
  const quality = alarm.quality && alarm.quality !== "good" ? alarm.quality : "";
  return (
    <li class={`alarm ${alarm.level.toLowerCase()} ${fresh ? "fresh" : "seen"}`} data-id={alarm.id}>
      <span class="level">
        <i aria-hidden="true">{MARKS[alarm.level]}</i>
        {alarm.level}
      </span>
      <span class="what">
        <strong>{alarm.title}</strong>
        <small>
          {[sourceName(alarm.source), valueText(alarm), quality && formatQuality(quality)].filter(Boolean).join(" · ")}
        </small>
      </span>
      <span class="state">
        {alarm.shelved ? "Shelved" : (STATE_WORDS[alarm.status] ?? alarm.status)}
        {alarm.uncertain ? ", uncertain" : ""}
        {count > 1 && <b class="count" title={`came ${count} times`}>{` ×${count}`}</b>}
        <small>
          {formatInstant(since, store.now.value)} · {formatAge(store.now.value - since)}
          {alarm.acknowledged_by ? ` · by ${alarm.acknowledged_by}` : ""}
        </small>
      </span>
      {fresh && atLeast("operator") && (
        <button class="acknowledge" disabled={busy.value} onClick={acknowledge} aria-label={`Acknowledge ${alarm.title}`}>
          Acknowledge
        </button>
      )}
      {problem.value && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </li>
  );
}
