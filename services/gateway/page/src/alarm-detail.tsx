/** What an operator asks of one alarm: what to do about it, what happened to it, and quiet for a while. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { commentOf, Problem, useAct, WhyInput } from "./act";
import { api, atLeast } from "./auth";
import { formatInstant, formatQuality, formatValue } from "./format";
import type { Alarm, Definition, Entry, Guidance, Page } from "./model";
import * as store from "./store";

const HOUR = 3_600_000;
const ONE_SHOT = "once";
const DURATIONS: [string, string][] = [
  [String(HOUR / 4), "15 minutes"],
  [String(HOUR), "1 hour"],
  [String(4 * HOUR), "4 hours"],
  [String(8 * HOUR), "8 hours"],
  [String(24 * HOUR), "24 hours"],
  [ONE_SHOT, "until its condition ends"],
];

export function Detail({ alarm }: { alarm: Alarm }) {
  return (
    <div class="detail">
      {alarm.description && <p>{alarm.description}</p>}
      {alarm.comment && <p class="said">“{alarm.comment}”</p>}
      {alarm.definition && <GuidanceOf definition={alarm.definition} />}
      {atLeast("operator") && alarm.level !== "Info" && alarm.status !== "Resolved" && <Shelving alarm={alarm} />}
      <History alarm={alarm} />
    </div>
  );
}

function GuidanceOf({ definition }: { definition: string }) {
  const found = useSignal<Guidance | null>(null);
  useEffect(() => {
    let gone = false;
    api<Definition>("GET", `/api/alarm-definitions/${definition}`)
      .then(({ guidance }) => {
        if (!gone && guidance) found.value = typeof guidance === "string" ? { action: guidance } : guidance;
      })
      // The definition may be gone while its alarm stands; then there is nothing to show.
      .catch(() => undefined);
    return () => {
      gone = true;
    };
  }, [definition]);
  const guidance = found.value;
  if (!guidance) return null;
  const minutes = guidance.time_to_respond_ms ? formatValue(guidance.time_to_respond_ms / 60_000) : "";
  const rows: [string, string | undefined][] = [
    ["Cause", guidance.cause],
    ["Consequence", guidance.consequence],
    ["What to do", guidance.action],
    ["Time to respond", minutes && `${minutes} min`],
  ];
  return (
    <dl class="guidance">
      {rows
        .filter(([, text]) => text)
        .map(([name, text]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{text}</dd>
          </div>
        ))}
    </dl>
  );
}

function Shelving({ alarm }: { alarm: Alarm }) {
  const duration = useSignal(String(HOUR));
  const comment = useSignal("");
  const { busy, problem, act } = useAct();
  const send = (action: "shelve" | "unshelve", time: object) =>
    act(async () => {
      const body = { ...time, ...commentOf(comment) };
      store.mergeAlarms([await api<Alarm>("POST", `/api/alarms/${alarm.id}/${action}`, body)]);
      comment.value = "";
    });
  const shelve = (event: SubmitEvent) => {
    event.preventDefault();
    void send("shelve", duration.value === ONE_SHOT ? { one_shot: true } : { duration_ms: Number(duration.value) });
  };
  return (
    <form class="shelving" onSubmit={shelve} aria-label={`Shelve ${alarm.title}`}>
      <WhyInput label="Comment" text={comment} />
      {alarm.shelved ? (
        <button type="button" disabled={busy.value} onClick={() => void send("unshelve", {})}>
          End shelving
        </button>
      ) : (
        <>
          <select
            aria-label="For how long"
            value={duration.value}
            onChange={(event) => (duration.value = event.currentTarget.value)}
          >
            {DURATIONS.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
          <button disabled={busy.value}>Shelve</button>
        </>
      )}
      <Problem text={problem} />
    </form>
  );
}

/** The newest entries of the alarm in the journal; read anew whenever the alarm changes. */
function History({ alarm }: { alarm: Alarm }) {
  const page = useSignal<Page<Entry> | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    let gone = false;
    read(alarm.id)
      .then((found) => {
        if (gone) return;
        page.value = found;
        problem.value = "";
      })
      .catch((error: Error) => {
        if (!gone) problem.value = error.message;
      });
    return () => {
      gone = true;
    };
  }, [alarm.id, alarm.updated_at_ms]);
  if (problem.value) return <p class="problem">{problem}</p>;
  if (!page.value) return <p class="hint">Reading the journal…</p>;
  const now = store.now.peek();
  return (
    <table class="history">
      <caption>Journal{page.value.cursor ? ", the newest entries" : ""}</caption>
      <tbody>
        {page.value.items.map((one) => (
          <tr key={one.id}>
            <td class="age">{formatInstant(one.at_ms, now)}</td>
            <th scope="row">{eventOf(one)}</th>
            <td>{[valueOf(one), one.quality && one.quality !== "good" ? formatQuality(one.quality) : ""].join(" ")}</td>
            <td>{[one.user, one.comment && `“${one.comment}”`].filter(Boolean).join(" ")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const SHOWN = 20;
const READS = 10;

/** The newest entries of an alarm. Behind a storm of others the server looks a part at a time. */
async function read(alarm: string): Promise<Page<Entry>> {
  const items: Entry[] = [];
  let cursor = "";
  for (let turn = 0; turn < READS; turn++) {
    const after = cursor && `&cursor=${encodeURIComponent(cursor)}`;
    const path = `/api/alarms/journal?limit=${SHOWN - items.length}&alarm=${encodeURIComponent(alarm)}${after}`;
    const page = await api<Page<Entry>>("GET", path);
    items.push(...page.items);
    cursor = page.cursor ?? "";
    if (!cursor || items.length === SHOWN) break;
  }
  return { items, cursor };
}

/** What happened; a response that closed its alarm says so. */
function eventOf({ event, status }: Entry): string {
  const closed = status === "Resolved" && event !== "resolved";
  return `${event.replaceAll("_", " ")}${closed ? ", resolved" : ""}`;
}

function valueOf(entry: Entry): string {
  const value = Number(entry.value);
  return entry.value === undefined ? "" : Number.isNaN(value) ? entry.value : formatValue(value);
}
