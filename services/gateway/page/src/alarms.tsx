/** Alarms that are not closed: what they say, what keeps them quiet, and the button that says "seen". */
import { signal, useSignal, useSignalEffect } from "@preact/signals";
import { useRef } from "preact/hooks";
import { Problem, useAct } from "./act";
import { Detail } from "./alarm-detail";
import { api, atLeast } from "./auth";
import { formatAge, formatInstant, formatQuality, showValue } from "./format";
import type { Alarm, Mark } from "./model";
import { usePolled } from "./polled";
import * as store from "./store";

// Shape, number and word stand for the level besides the color.
const MARKS: Record<string, string> = { Critical: "■", Major: "▲", Minor: "◆", Warning: "●", Info: "○" };
const STATE_WORDS: Record<string, string> = {
  New: "New",
  Acknowledged: "Acknowledged",
  Returned: "Returned, not acknowledged",
  Resolved: "Closed",
};

/** The alarm that the address names, as messages do: #alarm=ID. */
const namedHere = () => new URLSearchParams(location.hash.slice(1)).get("alarm") ?? "";
const named = signal(namedHere());
window.addEventListener("hashchange", () => (named.value = namedHere()));
const CLOSED_PAUSE = 10_000;

export function AlarmPanel() {
  const list = store.alarmList.value;
  const closed = named.value && !list.some((alarm) => alarm.id === named.value);
  const live = store.streamState.value === "live";
  const flood = store.flood.value;
  const quiet = list.filter(store.isMasked).length;
  const hint = [
    list.length && `${list.length} open`,
    list.length && `${store.unacknowledged.value} to acknowledge`,
    quiet && `${quiet} kept quiet`,
  ];
  return (
    <section class={`panel alarms ${live ? "" : "stale"}`} id="alarms" tabIndex={-1} aria-label="Alarms">
      <div class="bar">
        <h2>Alarms</h2>
        <span class="hint">{hint.filter(Boolean).join(", ")}</span>
      </div>
      {flood && (
        <p class="flood" role="status">
          {`Flood of alarms since ${formatInstant(Number(flood.created_at_ms), store.now.value)}: more than ten within ten minutes. The first-outs say where it began.`}
        </p>
      )}
      {list.length === 0 && (
        <p class="empty">{live ? "No alarm is open." : "Alarms are not known while the stream is down."}</p>
      )}
      <ul>
        {live && closed && <Closed key={named.value} id={named.value} />}
        {list.map((alarm) => (
          <Row key={alarm.id} alarm={alarm} />
        ))}
      </ul>
    </section>
  );
}

/** An alarm that the address names and that is not among the open ones. */
function Closed({ id }: { id: string }) {
  const { found, problem } = usePolled(() => api<Alarm>("GET", `/api/alarms/${encodeURIComponent(id)}`), CLOSED_PAUSE, id);
  if (problem.value) return <li class="problem">{`The address names an alarm: ${problem.value}`}</li>;
  return found.value && <Row alarm={found.value} />;
}

function valueText(alarm: Alarm): string {
  if (alarm.value === undefined || alarm.value === null || alarm.value === "") return "";
  const point = store.pointOf(alarm.source);
  const value = Number(alarm.value);
  if (Number.isNaN(value)) return String(alarm.value);
  return point ? `${showValue(point, value)} ${point.unit}`.trim() : String(value);
}

/** Who marked it, where, and why. */
function saidOf(mark: Mark): string {
  return `by ${mark.by}${mark.name ? ` (${mark.name})` : ""}${mark.comment ? `: ${mark.comment}` : ""}`;
}

/** What an operator must know of the state beside it: each a word, and why in its title. */
function marksOf(alarm: Alarm, now: number): { word: string; why: string }[] {
  const marks: { word: string; why: string }[] = [];
  if (alarm.latched) marks.push({ word: "latched", why: "its condition has ended; it stays until a person resolves it" });
  if (alarm.uncertain) marks.push({ word: "uncertain", why: "its point is not good, so whether it still holds is not known" });
  if (alarm.first_out) marks.push({ word: "first-out", why: `the first of its group${alarm.group ? ` ${alarm.group}` : ""}` });
  if (alarm.shelved) {
    const until = alarm.shelved.until_ms;
    const end = alarm.shelved.one_shot ? "until its condition ends" : "";
    const time = until ? `for ${formatAge(until - now)} more` : "";
    marks.push({ word: `shelved ${end || time}`.trim(), why: `shelved ${saidOf(alarm.shelved)}` });
  }
  if (alarm.suppressed) marks.push({ word: "suppressed", why: `suppressed ${saidOf(alarm.suppressed)}` });
  if (alarm.out_of_service) marks.push({ word: "out of service", why: `taken out ${saidOf(alarm.out_of_service)}` });
  return marks;
}

function Row({ alarm }: { alarm: Alarm }) {
  const { busy, problem, act } = useAct();
  const open = useSignal(false);
  const name = useRef<HTMLButtonElement>(null);
  useSignalEffect(() => {
    if (named.value !== alarm.id) return;
    open.value = true;
    name.current?.scrollIntoView({ block: "center" });
    name.current?.focus({ preventScroll: true });
  });
  const fresh = store.asks(alarm);
  const acknowledge = () =>
    act(async () => store.mergeAlarms([await api<Alarm>("POST", `/api/alarms/${alarm.id}/acknowledge`, {})]));
  const now = store.now.value;
  const since = Number(alarm.created_at_ms);
  const count = Number(alarm.count ?? 1);
  const quality = alarm.quality && alarm.quality !== "good" ? alarm.quality : "";
  const where = [store.nameOf(alarm.source), valueText(alarm), quality && formatQuality(quality), alarm.area];
  const marks = marksOf(alarm, now);
  return (
    <li class={`alarm ${alarm.level.toLowerCase()} ${fresh ? "fresh" : "seen"}`} data-id={alarm.id}>
      <span class="level">
        <i aria-hidden="true">{MARKS[alarm.level]}</i>
        {alarm.level}
      </span>
      <span class="what">
        <button
          ref={name}
          class="name"
          aria-expanded={open.value}
          aria-label={`Details of ${alarm.title}`}
          onClick={() => (open.value = !open.value)}
        >
          <i class="caret" aria-hidden="true" />
          <strong>{alarm.title}</strong>
        </button>
        <small>{where.filter(Boolean).join(" · ")}</small>
        {marks.length > 0 && (
          <small class="marks">
            {marks.map((mark) => (
              <span key={mark.word} class="mark" title={mark.why}>
                {mark.word}
              </span>
            ))}
          </small>
        )}
      </span>
      <span class="state">
        {alarm.level === "Info" ? "Event" : (STATE_WORDS[alarm.status] ?? alarm.status)}
        {count > 1 && <b class="count" title={`came ${count} times`}>{` ×${count}`}</b>}
        <small>
          {formatInstant(since, now)} · {formatAge(now - since)}
          {alarm.acknowledged_by ? ` · by ${alarm.acknowledged_by}` : ""}
        </small>
      </span>
      {fresh && alarm.level !== "Info" && atLeast("operator") && (
        <button class="acknowledge" disabled={busy.value} onClick={acknowledge} aria-label={`Acknowledge ${alarm.title}`}>
          Acknowledge
        </button>
      )}
      <Problem text={problem} />
      {open.value && <Detail alarm={alarm} />}
    </li>
  );
}
