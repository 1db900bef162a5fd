/** Rules: which there are, what they did last, and for one of them why it fires or does not. */
import { useSignal } from "@preact/signals";
import { AskReason } from "./ask";
import { Problem, useAct } from "./act";
import { api, atLeast } from "./auth";
import { type Beside, besideOf, Marks, Proposals, readBeside, ShadowAndVersions, waitingText, Warnings } from "./beside";
import { formatAge, formatInstant, formatQuality } from "./format";
import type { Condition, Explanation, Firing, Page, Rule } from "./model";
import { usePolled } from "./polled";
import { actionText, textOf } from "./says";
import * as store from "./store";

const FIRINGS_MS = 5000;
const WHY_MS = 2000;
const LAST_FIRINGS = 100;
const SHOWN_FIRINGS = 5;
const EVENT_WORDS: Record<string, string> = { fired: "fired", cleared: "armed again", resumed: "took over" };

interface Listed {
  rules: Rule[];
  firings: Firing[];
  beside: Beside;
}

async function list(): Promise<Listed> {
  const [rules, firings, beside] = await Promise.all([
    api<Page<Rule>>("GET", "/api/rules?limit=200"),
    api<Page<Firing>>("GET", `/api/rules/firings?limit=${LAST_FIRINGS}`),
    readBeside("/api/rules"),
  ]);
  return { rules: rules.items.sort((a, b) => b.priority - a.priority), firings: firings.items, beside };
}

export function RulePanel() {
  const turn = useSignal(0);
  const { found, problem } = usePolled(list, FIRINGS_MS, String(turn.value));
  const rules = found.value?.rules ?? [];
  if (!rules.length && !problem.value) return null;
  const off = rules.filter((rule) => !rule.enabled).length;
  const live = store.streamState.value === "live" && !problem.value;
  const waiting = found.value ? waitingText(found.value.beside) : "";
  return (
    <section class={`panel rules ${live ? "" : "stale"}`} aria-label="Rules">
      <div class="bar">
        <h2>Rules</h2>
        <span class="hint">{[`${rules.length}, by priority`, off && `${off} switched off`, waiting].filter(Boolean).join(", ")}</span>
      </div>
      {problem.value && <p class="problem">{problem}</p>}
      <ul>
        {rules.map((rule) => (
          <Row
            key={rule.id}
            rule={rule}
            firings={found.value!.firings.filter((one) => one.rule === rule.id)}
            beside={besideOf(found.value!.beside, rule.id)}
            changed={() => (turn.value += 1)}
          />
        ))}
      </ul>
    </section>
  );
}

interface One {
  rule: Rule;
  firings: Firing[];
  beside: Beside;
  changed: () => void;
}

function Row({ rule, firings, beside, changed }: One) {
  const open = useSignal(false);
  const now = store.now.value;
  const last = firings[0];
  const state = !rule.enabled ? "off" : last && last.event !== "cleared" ? "active" : "";
  return (
    <li class={state} data-id={rule.id}>
      <span>
        <button
          class="name"
          aria-expanded={open.value}
          aria-label={`Why ${rule.name}`}
          onClick={() => (open.value = !open.value)}
        >
          <i class="caret" aria-hidden="true" />
          <strong>{rule.name}</strong>
        </button>
        <Marks of={rule} beside={beside} />
      </span>
      <span class="state">
        {state === "off" ? "switched off" : state}
        {last && (
          <small>
            {EVENT_WORDS[last.event] ?? last.event} {formatInstant(Number(last.at_ms), now)}
          </small>
        )}
      </span>
      {open.value && <Why rule={rule} firings={firings} beside={beside} changed={changed} />}
    </li>
  );
}

function Why({ rule, firings, beside, changed }: One) {
  const path = `/api/rules/${rule.id}`;
  const { found, problem } = usePolled(() => api<Explanation>("GET", `${path}/explain`), WHY_MS, rule.id);
  const { busy, problem: refused, act } = useAct();
  const why = found.value;
  const now = store.now.value;
  const switching = rule.enabled ? "Switch off" : "Switch on";
  const propose = async (reason: string | undefined) => {
    await api("POST", `${path}/proposals`, { definition: { ...rule, enabled: !rule.enabled }, reason });
    changed();
  };
  const flip = () =>
    act(async () => {
      await api("POST", `${path}/${rule.enabled ? "disable" : "enable"}`, {});
      changed();
    });
  return (
    <div class="detail">
      <Proposals path={path} of={rule} beside={beside} changed={changed} />
      {rule.description && <p>{rule.description}</p>}
      <Warnings of={rule} />
      {problem.value && <p class="problem">{problem}</p>}
      {why && (
        <>
          <p class="because">
            {sentence(why.why)}
            {why.cooldown_until_ms ? ` Its cooldown ends in ${formatAge(why.cooldown_until_ms - now)}.` : ""}
          </p>
          <ul class="tree">
            <Branch condition={why.conditions} decided={why.decided_by} now={now} />
          </ul>
          <h3>{why.active ? "What it does when it fires" : "If it fired now"}</h3>
          {why.actions.length === 0 && <p>Nothing; it has no action.</p>}
          <ul class="actions">
            {why.actions.map((action, index) => (
              <li key={index}>{actionText(action)}</li>
            ))}
          </ul>
        </>
      )}
      {firings.length > 0 && (
        <table class="history">
          <caption>Last firings</caption>
          <tbody>
            {firings.slice(0, SHOWN_FIRINGS).map((one) => (
              <tr key={one.id}>
                <td class="age">{formatInstant(Number(one.at_ms), now)}</td>
                <th scope="row">{EVENT_WORDS[one.event] ?? one.event}</th>
                <td>{one.actions.map(actionText).join("; ")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <ShadowAndVersions path={path} of={rule} beside={beside} changed={changed} />
      <div class="hint foot">
        {`${rule.id}, version ${rule.version} by ${rule.author}, priority ${rule.priority}`}
        {atLeast("engineer") && !rule.requires_approval && (
          <button disabled={busy.value} onClick={() => void flip()}>
            {switching}
          </button>
        )}
        {atLeast("engineer") && rule.requires_approval && (
          <AskReason label={`Propose to ${switching.toLowerCase()}`} action="Propose" run={propose} />
        )}
      </div>
      <Problem text={refused} />
    </div>
  );
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

const OPERATOR_WORDS: Record<string, string> = { "==": "is", "!=": "is not", ">=": "≥", "<=": "≤" };
const GROUP_WORDS: Record<string, string> = { all: "all of", any: "any of", not: "not" };
const MARKS = new Map<boolean | null, [string, string, string]>([
  [true, ["✓", "true", "holds"]],
  [false, ["–", "false", "does not hold"]],
  [null, ["?", "unknown", "is unknown"]],
]);

function Branch({ condition, decided, now }: { condition: Condition; decided: string[]; now: number }) {
  const [mark, name, words] = MARKS.get(condition.result)!;
  return (
    <li class={`${name} ${decided.includes(condition.path) ? "decides" : ""}`}>
      <i class="mark-of" role="img" aria-label={words} title={words}>
        {mark}
      </i>
      <span>
        {condition.conditions ? GROUP_WORDS[condition.kind ?? "all"] : <Leaf condition={condition} now={now} />}
      </span>
      {condition.conditions && (
        <ul>
          {condition.conditions.map((one) => (
            <Branch key={one.path} condition={one} decided={decided} now={now} />
          ))}
        </ul>
      )}
    </li>
  );
}

function Leaf({ condition, now }: { condition: Condition; now: number }) {
  const { source, actual, quality, hold } = condition;
  const known = actual !== null && actual !== undefined;
  const notes = [
    source && known && `now ${textOf(condition.aggregate === "count" ? undefined : source, actual)}`,
    condition.other !== undefined && condition.other !== null && `against ${textOf(source, condition.other)}`,
    quality !== "good" && source && formatQuality(quality),
    condition.missing,
    holdText(condition, hold, now),
  ];
  return (
    <>
      {source ? `${condition.aggregate ? `${condition.aggregate} of ` : ""}${store.nameOf(source)}` : "time is within the window"}{" "}
      {OPERATOR_WORDS[condition.operator ?? ""] ?? condition.operator}{" "}
      {condition.value === undefined ? "" : textOf(condition.aggregate === "count" ? undefined : source, condition.value)}
      {condition.window_ms ? ` over ${formatAge(condition.window_ms)}` : ""}
      {condition.for_ms ? ` for ${formatAge(condition.for_ms)}` : ""}
      <small>{notes.filter(Boolean).join(" · ")}</small>
    </>
  );
}

function holdText(condition: Condition, hold: Condition["hold"], now: number): string {
  if (!hold) return "";
  if (hold.paused) return `its hold is paused with ${formatAge(hold.left_ms ?? 0)} to go`;
  if (!hold.until_ms) return "";
  return condition.for_ms ? `holds in ${formatAge(hold.until_ms - now)}` : `until ${formatInstant(hold.until_ms, now)}`;
}
