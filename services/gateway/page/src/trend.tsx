/** A trend of the chosen point: its history, then what the stream adds. */
import { effect, signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { api } from "./auth";
import { formatValue, showValue } from "./format";
import { gradeOf, Quality } from "./quality";
import * as store from "./store";
import type { Point } from "./store";
import { theme } from "./theme";

interface Reply {
  series: { ref: string; points: [ms: number, value: number | null, quality: number][] }[];
}
interface Span {
  label: string;
  ms: number;
  /** Width of the means; 0 draws the samples themselves. */
  interval: number;
}

const MINUTE = 60_000;
const SPANS: Span[] = [
  { label: "5 min", ms: 5 * MINUTE, interval: 0 },
  { label: "1 h", ms: 60 * MINUTE, interval: 10_000 },
  { label: "6 h", ms: 360 * MINUTE, interval: MINUTE },
  { label: "24 h", ms: 1440 * MINUTE, interval: 5 * MINUTE },
  { label: "7 d", ms: 10_080 * MINUTE, interval: 30 * MINUTE },
];
const MAX_SAMPLES = 20_000;
const HEIGHT = 220;
const span = signal(SPANS[0]!);

type Row = [ms: number, value: number | null];

/** Quality of a recorded sample: 192 good, 64 uncertain, 0 bad. */
const GOOD = 192;

async function history(point: Point, wanted: Span, nowMs: number): Promise<Row[]> {
  const body: Record<string, unknown> = {
    series: [point.ref],
    start: nowMs - wanted.ms,
    end: nowMs,
    limit: MAX_SAMPLES,
    order: "asc",
    // Points are recorded on change: between two samples the value stood still.
    fill: "previous",
  };
  if (wanted.interval) Object.assign(body, { interval: `${wanted.interval / 1000}s`, aggregate: "mean" });
  const reply = await api<Reply>("POST", "/api/history/query", body);
  return (reply.series[0]?.points ?? []).map(([ms, value, quality]) => [ms, wanted.interval || quality === GOOD ? value : null]);
}

export function TrendPanel() {
  const point = store.selected.value;
  return (
    <section class="panel trend" id="trend" aria-label="Trend">
      {point ? (
        <Trend key={`${point.ref} ${span.value.label}`} point={point} />
      ) : (
        <>
          <h2>Trend</h2>
          <p class="empty">Choose a point to see its trend.</p>
        </>
      )}
    </section>
  );
}

function Trend({ point }: { point: Point }) {
  const device = store.devices.value.find((one) => one.id === point.channel);
  const model = store.models.value.find((one) => point.ref.startsWith(`modsrv:${one.id}:`));
  return (
    <>
      <div class="bar">
        <h2>
          {(model ?? device)?.name} · {point.name}
        </h2>
        <button class="quiet" onClick={() => (store.selected.value = null)} aria-label="Close the trend">
          Close
        </button>
      </div>
      <p class={`reading ${store.streamState.value === "live" ? gradeOf(point.sample.value[1]) : "bad"}`}>
        <b>
          {showValue(point, point.sample.value[0])} {point.unit}
        </b>{" "}
        <Quality point={point} /> <code>{point.ref}</code>
      </p>
      <Chart point={point} />
      <div class="spans" role="group" aria-label="Time span">
        {SPANS.map((one) => (
          <button key={one.label} aria-pressed={one === span.value} onClick={() => (span.value = one)}>
            {one.label}
          </button>
        ))}
        <span class="hint">{span.value.interval ? "means, then live samples" : "every sample, held until the next"}</span>
      </div>
    </>
  );
}

function Chart({ point }: { point: Point }) {
  const box = useRef<HTMLDivElement>(null);
  const problem = useSignal("");
  const empty = useSignal(false);
  useEffect(() => {
    const element = box.current!;
    element.closest("section")?.scrollIntoView({ block: "nearest" });
    const wanted = span.peek();
    let rows: Row[] = [];
    let ready = false;
    let plot = makePlot(element, point, wanted);
    const draw = () => {
      const end = store.now.peek();
      while (rows.length > 1 && (rows[1]?.[0] ?? 0) < end - wanted.ms) rows.shift();
      const last = rows.at(-1);
      // The last value holds until now, but only while we know that it does.
      const live = store.streamState.peek() === "live" && point.sample.peek()[1] === "good";
      const shown: Row[] = last && live ? [...rows, [end, last[1]]] : rows;
      empty.value = ready && !rows.length;
      const drawn = wanted.interval ? shown : steps(shown);
      plot.setData([drawn.map((row) => row[0] / 1000), drawn.map((row) => row[1])], false);
      plot.setScale("x", { min: (end - wanted.ms) / 1000, max: end / 1000 });
    };
    const load = async () => {
      try {
        const known = await history(point, wanted, store.now.peek());
        const newest = known.at(-1)?.[0] ?? 0;
        rows = [...known, ...rows.filter((row) => row[0] > newest)];
        problem.value = "";
      } catch (error) {
        problem.value = `No history: ${(error as Error).message}`;
      }
      ready = true;
      draw();
    };
    const stops = [
      effect(() => {
        const [value, quality, at] = point.sample.value;
        if (!quality) return;
        const instant = at ?? store.now.peek();
        if (instant > (rows.at(-1)?.[0] ?? 0)) {
          rows.push([instant, quality === "good" && typeof value === "number" ? value : null]);
        }
      }),
      effect(() => {
        store.now.value;
        draw();
      }),
      effect(() => {
        theme.value;
        plot.destroy();
        plot = makePlot(element, point, wanted);
        draw();
      }),
      // After a gap in the stream the history knows what was missed.
      effect(() => {
        if (store.streamState.value === "live") void load();
      }),
    ];
    const resize = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      for (const stop of stops) stop();
      resize.disconnect();
      plot.destroy();
    };
  }, [point.ref]);
  return (
    <>
      <div class="chart" ref={box} role="img" aria-label={`Trend of ${point.name}`} />
      <p class="hint" role="status">
        {problem.value || (empty.value ? "Nothing was recorded in this time." : "")}
      </p>
    </>
  );
}

function makePlot(element: HTMLElement, point: Point, wanted: Span): uPlot {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--muted").trim();
  const grid = style.getPropertyValue("--line").trim();
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui" };
  const words = point.definition.value_map || point.definition.data_type === "bool";
  return new uPlot(
    {
      width: element.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 } },
      scales: { x: { time: true }, y: words ? { range: (_plot, _min, max) => [-0.1, Math.max(1, max ?? 1) + 0.1] } : { range: padded } },
      axes: [
        { ...axis, values: clockLabels(wanted) },
        { ...axis, size: 62, values: (_plot, ticks) => ticks.map((tick) => (words ? (Number.isInteger(tick) ? showValue(point, tick) : "") : formatValue(tick))) },
      ],
      series: [
        {},
        {
          stroke: style.getPropertyValue("--trend").trim(),
          width: 1.75,
          points: { show: false },
        },
      ],
      plugins: [readout(point)],
    },
    [[], []],
    element,
  );
}

/** A value holds until the next one: the corner between two is a row of its own. */
function steps(rows: Row[]): Row[] {
  return rows.flatMap((row, index) => {
    const before = rows[index - 1]?.[1] ?? null;
    return before === null ? [row] : [[row[0], before] as Row, row];
  });
}

/** Keeps a steady value from filling the whole height with its noise. */
function padded(_plot: uPlot, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const least = Math.max(Math.abs(max), Math.abs(min)) * 0.01 || 1;
  const pad = Math.max((max - min) * 0.1, least / 2);
  return [min - pad, max + pad];
}

function clockLabels(wanted: Span): uPlot.Axis.DynamicValues {
  const format = new Intl.DateTimeFormat(undefined, {
    ...(wanted.ms > 1440 * MINUTE ? { day: "2-digit", month: "short" } : {}),
    hour: "2-digit",
    minute: "2-digit",
    ...(wanted.ms < 10 * MINUTE ? { second: "2-digit" } : {}),
    hour12: false,
  });
  return (_plot, ticks) => ticks.map((tick) => format.format(new Date(tick * 1000)));
}

/** Writes instant and value under the pointer. */
function readout(point: Point): uPlot.Plugin {
  const label = document.createElement("output");
  label.className = "readout";
  const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium", hour12: false });
  return {
    hooks: {
      init: (plot) => {
        plot.over.append(label);
      },
      setCursor: (plot) => {
        const index = plot.cursor.idx;
        const x = index == null ? undefined : plot.data[0][index];
        label.hidden = x === undefined;
        if (x === undefined || index == null) return;
        const value = plot.data[1]?.[index] ?? null;
        label.textContent = `${clock.format(new Date(x * 1000))}  ${value === null ? "not good" : `${showValue(point, value)} ${point.unit}`}`;
      },
    },
  };
}
