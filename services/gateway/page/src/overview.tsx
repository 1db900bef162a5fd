/** The site at a glance: each model's power, and what else its class lives by. */
import { useComputed } from "@preact/signals";
import { showValue } from "./format";
import { gradeOf, Quality } from "./quality";
import * as store from "./store";
import type { ModelCard, Point } from "./store";

const CLASSES = ["grid_meter", "pv_inverter", "battery", "genset", "load"];
const SECOND: Record<string, string> = { battery: "state_of_charge", genset: "fuel_level", grid_meter: "frequency" };
// What a sign means, by class: import, production, discharge and consumption are positive.
const WORDS: Record<string, [string, string]> = {
  grid_meter: ["importing", "exporting"],
  pv_inverter: ["producing", "consuming"],
  battery: ["discharging", "charging"],
  genset: ["producing", "consuming"],
  load: ["consuming", "feeding"],
};
const IDLE_KW = 0.05;

export function Overview() {
  const list = store.models.value.filter((model) => CLASSES.includes(model.class));
  if (!list.length) return null;
  const sorted = [...list].sort((a, b) => CLASSES.indexOf(a.class) - CLASSES.indexOf(b.class));
  return (
    <section class={`overview ${store.streamState.value === "live" ? "" : "stale"}`} aria-label="Site">
      {sorted.map((model) => (
        <Tile key={model.id} model={model} />
      ))}
    </section>
  );
}

function Tile({ model }: { model: ModelCard }) {
  const power = model.points.find((point) => point.definition.id === "active_power");
  const second = model.points.find((point) => point.definition.id === SECOND[model.class]);
  if (!power) return null;
  const chosen = store.selected.value?.ref === power.ref;
  return (
    <button
      class={`panel tile ${gradeOf(power.sample.value[1])}`}
      aria-pressed={chosen}
      onClick={() => (store.selected.value = chosen ? null : power)}
    >
      <span class="tile-name">{model.name}</span>
      <span class="tile-value">
        {showValue(power, power.sample.value[0])} <small>{power.unit}</small>
      </span>
      <Direction point={power} words={WORDS[model.class]} />
      {second && (
        <span class={`tile-second ${gradeOf(second.sample.value[1])}`}>
          {second.name} {showValue(second, second.sample.value[0])} {second.unit}
        </span>
      )}
    </button>
  );
}

function Direction({ point, words }: { point: Point; words: [string, string] | undefined }) {
  const word = useComputed(() => {
    const value = point.sample.value[0];
    if (typeof value !== "number" || !words) return "";
    return Math.abs(value) < IDLE_KW ? "idle" : value > 0 ? words[0] : words[1];
  });
  const good = point.sample.value[1] === "good" && store.streamState.value === "live";
  return <span class="tile-word">{good ? word : <Quality point={point} />}</span>;
}
