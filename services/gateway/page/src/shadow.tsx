/** A shadow beside the active definition: what it says differently, and what it did differently over a day. */
import { api, atLeast } from "./auth";
import { AskReason } from "./ask";
import { formatAge, formatInstant } from "./format";
import type { Comparison, Kept, RuleAction, Shadow } from "./model";
import { usePolled } from "./polled";
import { Changes } from "./proposals";
import { actionText } from "./says";
import * as store from "./store";

const COMPARE_MS = 5000;
const SHOWN = 5;
const DAY = 86_400_000;

interface Beside {
  path: string;
  of: Kept;
  shadow: Shadow;
  changed: () => void;
}

export function ShadowBox({ path, of, shadow, changed }: Beside) {
  const { found, problem } = usePolled(() => api<Comparison>("GET", `${path}/shadow/comparison`), COMPARE_MS, path);
  const now = store.now.value;
  const promote = async (reason: string | undefined) => {
    const why = reason ?? shadow.reason;
    if (of.requires_approval) await api("POST", `${path}/proposals`, { definition: shadow.definition, reason: why });
    else await api("POST", `${path}/shadow/promote`, { reason: why }, of.version);
    changed();
  };
  const end = async () => {
    await api("DELETE", `${path}/shadow`);
    changed();
  };
  return (
    <div role="group" class="beside" aria-label="Shadow">
      <h3>Shadow: it runs beside this one and acts on nothing</h3>
      <p>
        {shadow.reason && <>“{shadow.reason}” </>}
        <small>{`started by ${shadow.by} ${formatInstant(shadow.started_at_ms, now)}`}</small>
      </p>
      {problem.value && <p class="problem">{problem}</p>}
      {found.value && <Compared found={found.value} now={now} />}
      {atLeast("engineer") && (
        <div class="acts">
          <AskReason
            label={of.requires_approval ? "Propose it" : "Put it in place"}
            action={of.requires_approval ? "Propose" : "Put it in place"}
            run={promote}
          />
          <AskReason label="End it" action="End it" warning="What was noted goes with it." run={end} />
        </div>
      )}
    </div>
  );
}

function Compared({ found, now }: { found: Comparison; now: number }) {
  const span = found.end_ms - found.start_ms;
  const over = span > DAY - 60_000 ? "Over the last day" : `In the ${formatAge(span)} since then`;
  const last = found.differences.slice(-SHOWN).reverse();
  const apart = found.apart.slice(-SHOWN).reverse();
  return (
    <>
      <Changes changes={found.changes} />
      <p class="because">{`${over} they were the same ${percent(found.same_percent)} of the time.`}</p>
      <table class="history sides">
        <caption class="visually-hidden">What both did</caption>
        <thead>
          <tr>
            <th scope="col">which</th>
            <th scope="col">fired</th>
            <th scope="col">on for</th>
            <th scope="col">now</th>
          </tr>
        </thead>
        <tbody>
          {(["active", "shadow"] as const).map((who) => (
            <tr key={who}>
              <th scope="row">{who}</th>
              <td>{`${found[who].fired} ×`}</td>
              <td>{formatAge(found[who].on_ms)}</td>
              <td>{found[who].on ? "on" : "off"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {last.length > 0 && (
        <table class="history sides">
          <caption>{`When they differed, the last ${last.length} of ${found.differences.length}`}</caption>
          <tbody>
            {last.map((one) => (
              <tr key={one.from_ms}>
                <td class="age">{formatInstant(one.from_ms, now)}</td>
                <td>{one.to_ms ? `for ${formatAge(one.to_ms - one.from_ms)}` : "still"}</td>
                <td>{`only the ${one.only} was on`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {apart.length > 0 && (
        <table class="history">
          <caption>{`Firings that differ, the last ${apart.length} of ${found.apart.length}`}</caption>
          <tbody>
            {apart.map((one) => (
              <tr key={one.at_ms}>
                <td class="age">{formatInstant(one.at_ms, now)}</td>
                <td>
                  {(["active", "shadow"] as const).map((who) => (
                    <p key={who}>{`${who}: ${cameTo(one[who])}`}</p>
                  ))}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {Object.entries(found.actions).map(([type, { done = 0, withheld = 0 }]) => (
        <p key={type} class="hint">
          {`Its ${type.replaceAll("_", " ")} would have been done ${done} ×${withheld ? `, withheld ${withheld} ×` : ""}.`}
        </p>
      ))}
    </>
  );
}

function cameTo(actions: RuleAction[] | null): string {
  if (!actions) return "did not fire";
  return actions.map(actionText).join("; ") || "fired, and has no action";
}

/** Nothing but all of the time is 100 %. */
const percent = (share: number): string => (share === 100 ? "100 %" : `${Math.min(share, 99.99).toFixed(2)} %`);
