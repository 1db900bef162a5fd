/** Quality as a mark, a word and a color, so that no one of them is needed to read it. */
import { formatQuality } from "./format";
import { type Point, streamState } from "./store";

export type Grade = "good" | "uncertain" | "bad" | "none";

export function gradeOf(quality: string): Grade {
  if (quality === "") return "none";
  if (quality === "good") return "good";
  return quality.startsWith("uncertain") ? "uncertain" : "bad";
}

const MARKS: Record<Grade, string> = { good: "", uncertain: "◆", bad: "■", none: "" };

export function Quality({ point }: { point: Point }) {
  const quality = point.sample.value[1];
  if (streamState.value !== "live") return <span class="quality none">not live</span>;
  const grade = gradeOf(quality);
  return (
    <span class={`quality ${grade}`}>
      {MARKS[grade] && <i aria-hidden="true">{MARKS[grade]}</i>}
      {grade === "none" ? "no value" : formatQuality(quality)}
    </span>
  );
}
