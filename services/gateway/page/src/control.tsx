/** A set-point in two steps: enter and review, then confirm; then its way through the ledger. */
import { useSignal, useSignalEffect } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Problem } from "./act";
import { api, atLeast } from "./auth";
import { formatInstant, formatQuality, formatValue, parseNumber, showValue } from "./format";
import type { Command } from "./model";
import { gradeOf } from "./quality";
import * as store from "./store";
import type { Point } from "./store";

export const FINAL = new Set(["verified", "rejected", "failed", "mismatch", "expired", "superseded"]);
export const FAILED = new Set(["rejected", "failed", "mismatch", "expired", "superseded"]);
const STEPS = ["queued", "sent", "acknowledged", "verified"];
const TTL_MS = 10_000;

export function Control({ point, device }: { point: Point; device: string }) {
  const asked = useSignal<number | string | null>(null);
  const text = useSignal("");
  const problem = useSignal("");
  const busy = useSignal(false);
  const commandId = useSignal("");
  const [value, quality] = point.sample.value;
  const allowed = atLeast("operator");
  const live = store.streamState.value === "live";

  const review = (event: SubmitEvent) => {
    event.preventDefault();
    if (store.isText(point.definition)) {
      ask(text.value);
      return;
    }
    const number = parseNumber(text.value);
    problem.value = number === null ? `“${text.value}” is no number` : rangeProblem(point, number);
    asked.value = problem.value ? null : number;
  };
  const ask = (wanted: number | string) => {
    problem.value = "";
    asked.value = wanted;
  };
  const send = async () => {
    busy.value = true;
    try {
      const body = { type: point.kind, point: Number(point.definition.id), value: asked.value, ttl_ms: TTL_MS };
      const command = await api<Command>("POST", `/api/channels/${point.channel}/commands`, body);
      commandId.value = command.id;
      store.mergeCommands([newer(store.commands.peek().get(command.id), command)]);
      asked.value = null;
      text.value = "";
    } catch (error) {
      problem.value = (error as Error).message;
      asked.value = null;
    } finally {
      busy.value = false;
    }
  };
  return (
    <div class={`control ${gradeOf(quality)}`} data-ref={point.ref}>
      <button
        class="name"
        title={`${point.ref}${point.definition.description ? `: ${point.definition.description}` : ""}`}
        aria-pressed={store.selected.value?.ref === point.ref}
        onClick={() => (store.selected.value = store.selected.value?.ref === point.ref ? null : point)}
      >
        {point.name}
      </button>
      <span class="value" title="the last value the device confirmed">
        {value === null ? "not set" : `${showValue(point, value)} ${point.unit}`}
      </span>
      {allowed && point.kind === "A" && asked.value === null && (
        <form class="enter" onSubmit={review}>
          <input
            inputMode={store.isText(point.definition) ? "text" : "decimal"}
            aria-label={`New value of ${device} ${point.name}${point.unit ? ` in ${point.unit}` : ""}`}
            placeholder={rangeText(point)}
            value={text.value}
            onInput={(event) => (text.value = event.currentTarget.value)}
          />
          <button disabled={!live || !text.value.trim()}>Set…</button>
        </form>
      )}
      {allowed && point.kind === "C" && asked.value === null && (
        <span class="enter">
          <button disabled={!live} onClick={() => ask(1)} aria-label={`${device} ${point.name}: on`}>
            On…
          </button>
          <button disabled={!live} onClick={() => ask(0)} aria-label={`${device} ${point.name}: off`}>
            Off…
          </button>
        </span>
      )}
      {asked.value !== null && (
        <Confirm
          busy={busy.value || !live}
          onConfirm={() => void send()}
          onCancel={() => (asked.value = null)}
          question={
            <>
              {device}: {point.name} {value === null ? "" : `from ${showValue(point, value)} `}to{" "}
              <b>{askedText(point, asked.value)}</b>?
            </>
          }
        />
      )}
      <Problem text={problem} />
      {commandId.value && <Progress id={commandId.value} point={point} />}
    </div>
  );
}

interface Question {
  question: preact.ComponentChildren;
  busy: boolean;
  onConfirm: () => void;
  onCancel: () => void;
}

function Confirm({ question, busy, onConfirm, onCancel }: Question) {
  const cancel = useRef<HTMLButtonElement>(null);
  // Before the paint: Escape must find it from the first moment it is seen.
  useLayoutEffect(() => cancel.current?.focus(), []);
  return (
    <div
      class="confirm"
      role="group"
      aria-label="Confirm the command"
      onKeyDown={(event) => event.key === "Escape" && onCancel()}
    >
      <span>{question}</span>
      <button class="primary" disabled={busy} onClick={onConfirm}>
        Confirm
      </button>
      <button ref={cancel} onClick={onCancel}>
        Cancel
      </button>
    </div>
  );
}

/** The command's states as they come; once it is final, the reason if it failed. */
function Progress({ id, point }: { id: string; point: Point }) {
  const command = store.commands.value.get(id);
  useSignalEffect(() => {
    // While the stream is down nobody pushes the ledger's state, so ask for it.
    if (store.streamState.value === "live") return;
    const timer = setInterval(async () => {
      const known = store.commands.peek().get(id);
      if (known && FINAL.has(known.state)) return;
      try {
        store.mergeCommands([await api<Command>("GET", `/api/commands/${id}`)]);
      } catch {
        // The banner says already that the gateway is away.
      }
    }, 1500);
    return () => clearInterval(timer);
  });
  if (!command) return null;
  const reached = STEPS.indexOf(command.state);
  const failed = FAILED.has(command.state);
  return (
    <div class={`progress ${failed ? "failed" : ""}`} role="status" data-state={command.state}>
      {failed ? (
        <b class="bad">
          ■ {command.state}
          {command.reason ? `: ${formatQuality(command.reason)}` : ""}
        </b>
      ) : (
        <ol>
          {STEPS.map((step, index) => (
            <li key={step} class={index <= reached ? "done" : ""}>
              {step}
            </li>
          ))}
        </ol>
      )}
      <small>
        {`${showValue(point, command.value)} ${point.unit}`.trim()} ·{" "}
        {formatInstant(command.created_at_ms ?? store.now.peek(), store.now.peek())}
      </small>
    </div>
  );
}

function askedText(point: Point, value: number | string): string {
  if (typeof value === "string") return `“${value}”`;
  if (point.kind === "C") return value ? "on" : "off";
  return `${formatValue(value)} ${point.unit}`;
}

/** Of two views of a command the one further along its way: the reply may be older than the stream. */
function newer(known: Command | undefined, other: Command): Command {
  if (!known) return other;
  return (known.transitions?.length ?? 0) > (other.transitions?.length ?? 0) || FINAL.has(known.state) ? known : other;
}

function rangeText(point: Point): string {
  const { min, max } = point.definition;
  const has = (limit: number | null | undefined): limit is number => limit !== null && limit !== undefined;
  if (has(min) && has(max)) return `${formatValue(min)} to ${formatValue(max)}`;
  if (has(min)) return `from ${formatValue(min)}`;
  if (store.isText(point.definition)) return "text";
  return has(max) ? `to ${formatValue(max)}` : "value";
}

function rangeProblem(point: Point, value: number): string {
  const { min, max } = point.definition;
  const low = min !== null && min !== undefined && value < min;
  const high = max !== null && max !== undefined && value > max;
  return low || high ? `${formatValue(value)} is outside ${rangeText(point)} ${point.unit}` : "";
}
