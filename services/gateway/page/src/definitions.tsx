/** Alarm definitions: when each alarms, what waits for a second person, what runs beside it, and its versions. */
import { useSignal } from "@preact/signals";
import { api } from "./auth";
import { type Beside, besideOf, Marks, Proposals, readBeside, ShadowAndVersions, waitingText, Warnings } from "./beside";
import { formatAge, formatValue, showValue } from "./format";
import type { Definition, Page } from "./model";
import { usePolled } from "./polled";
import * as store from "./store";

const PATH = "/api/alarm-definitions";
const READ_MS = 5000;
const MOST = 1000;

interface Listed {
  definitions: Definition[];
  beside: Beside;
}

/** Closed, the panel asks only for what wants a person. */
async function list(open: boolean): Promise<Listed> {
  const [definitions, beside] = await Promise.all([
    open ? api<Page<Definition>>("GET", `${PATH}?limit=${MOST}`) : { items: [] },
    readBeside(PATH),
  ]);
  return { definitions: definitions.items, beside };
}

export function DefinitionPanel() {
  const open = useSignal(false);
  const turn = useSignal(0);
  const { found, problem } = usePolled(() => list(open.peek()), READ_MS, `${turn.value} ${open.value}`);
  const shown = found.value;
  const shadows = shown?.beside.shadows.length ?? 0;
  const hints = [
    open.value && shown && `${shown.definitions.length} by id`,
    shadows && (shadows > 1 ? `${shadows} shadows` : "1 shadow"),
    shown && waitingText(shown.beside),
  ];
  return (
    <section class="panel rules" aria-label="Alarm definitions">
      <div class="bar">
        <h2>
          <button class="name" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
            <i class="caret" aria-hidden="true" />
            Alarm definitions
          </button>
        </h2>
        <span class="hint">{hints.filter(Boolean).join(", ")}</span>
      </div>
      {problem.value && <p class="problem">{problem}</p>}
      {open.value && shown && (
        <ul>
          {shown.definitions.map((one) => (
            <Row
              key={one.id}
              definition={one}
              beside={besideOf(shown.beside, one.id)}
              changed={() => (turn.value += 1)}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

interface One {
  definition: Definition;
  beside: Beside;
  changed: () => void;
}

function Row({ definition, beside, changed }: One) {
  const open = useSignal(false);
  const standing = store.alarmList.value.some((alarm) => alarm.definition === definition.id);
  const around = { path: `${PATH}/${definition.id}`, of: definition, beside, changed };
  const state = definition.enabled === false ? "off" : standing ? "active" : "";
  return (
    <li class={state} data-id={definition.id}>
      <span>
        <button class="name" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
          <i class="caret" aria-hidden="true" />
          <strong>{definition.name ?? said(definition.message) ?? definition.id}</strong>
        </button>
        <Marks of={definition} beside={beside} />
      </span>
      <span class="state">
        {state === "off" ? "switched off" : state && "alarm open"}
        <small>{definition.level}</small>
      </span>
      {open.value && (
        <div class="detail">
          <Proposals {...around} />
          <Warnings of={definition} />
          <p class="because">{`${sentence(definition)}.`}</p>
          <p class="hint">{options(definition).join(" · ")}</p>
          <ShadowAndVersions {...around} />
          <p class="hint">{`${definition.id}, version ${definition.version} by ${definition.author}`}</p>
        </div>
      )}
    </li>
  );
}

/** When it alarms, in words. */
function sentence({ source, detector, limit, other, window_ms }: Definition): string {
  const point = store.pointOf(source);
  const value = typeof limit === "number" ? (point ? `${showValue(point, limit)} ${point.unit}`.trim() : formatValue(limit)) : limit;
  const age = typeof limit === "number" ? formatAge(limit) : "";
  const against = other ? store.nameOf(other) : "";
  const words: Record<string, string> = {
    HiHi: `over ${value}`,
    Hi: `over ${value}`,
    Lo: `under ${value}`,
    LoLo: `under ${value}`,
    State: `is ${value}`,
    Rate: `changes by more than ${value} in ${formatAge(window_ms ?? 60_000)}`,
    Deviation: `more than ${value} apart from ${against}`,
    Discrepancy: `does not follow ${against} within ${age}`,
    Stuck: `without a change for ${age}`,
    NoData: `silent for ${age}`,
    Quality: `is ${limit ?? "bad"}`,
  };
  return `${store.nameOf(source)} ${words[detector] ?? detector}`;
}

function options(one: Definition): string[] {
  return [
    one.detector,
    one.deadband ? `deadband ${one.deadband}` : "",
    one.deadband_percent ? `deadband ${one.deadband_percent} %` : "",
    one.on_delay_ms ? `comes after ${formatAge(one.on_delay_ms)}` : "",
    one.off_delay_ms ? `ends after ${formatAge(one.off_delay_ms)}` : "",
    one.latching ? "latching" : "",
    one.area ?? "",
    one.equipment ?? "",
  ].filter(Boolean);
}

/** A message without the places that an alarm fills. */
const said = (message?: string): string | undefined => message?.replace(/\{[^}]*\}(\s*\{[^}]*\})*/g, "…");
