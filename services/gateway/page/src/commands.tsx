/** The last commands, whoever sent them. */
import { FAILED } from "./control";
import { formatInstant, formatQuality, showValue } from "./format";
import type { Command } from "./model";
import * as store from "./store";

const SHOWN = 8;

export function CommandPanel() {
  const list = [...store.commands.value.values()].slice(0, SHOWN);
  if (!list.length) return null;
  return (
    <section class={`panel commands ${store.streamState.value === "live" ? "" : "stale"}`} aria-label="Commands">
      <h2>Last commands</h2>
      <ul>
        {list.map((command) => (
          <Row key={command.id} command={command} />
        ))}
      </ul>
    </section>
  );
}

function sourceText(source: Command["source"]): string {
  if (!source) return "";
  return typeof source === "string" ? source : `${source.kind} ${source.name}`;
}

function Row({ command }: { command: Command }) {
  // A text's reference says that it is one.
  const type = typeof command.value === "string" ? "X" : command.type;
  const point = store.pointOf(`comsrv:${command.channel}:${type}:${command.point}`);
  const device = store.devices.value.find((one) => one.id === String(command.channel));
  const value = point ? `${showValue(point, command.value)} ${point.unit}` : String(command.value);
  return (
    <li class={FAILED.has(command.state) ? "failed" : ""}>
      <time>{command.created_at_ms ? formatInstant(command.created_at_ms, store.now.peek()) : ""}</time>
      <span class="what">
        {device?.name ?? command.channel} · {point?.name ?? `${command.type} ${command.point}`} → {value}
        <small>
          {sourceText(command.source)}
          {command.reason ? ` · ${formatQuality(command.reason)}` : ""}
        </small>
      </span>
      <span class="state">{command.state}</span>
    </li>
  );
}
