/** Shapes of the documents the page reads. */

export type Kind = "T" | "S" | "C" | "A";

export interface PointDefinition {
  id: string | number;
  name?: string;
  signal_name?: string;
  unit?: string;
  description?: string;
  data_type?: string;
  value_map?: Record<string, string> | null;
  min?: number | null;
  max?: number | null;
  scale?: number | null;
  block?: string;
}

export interface Channel {
  id: number | string;
  name: string;
  protocol: string;
  enabled?: boolean;
  interval_ms?: number;
  polling?: { interval_ms?: number };
  points?: Partial<Record<Kind, PointDefinition[]>>;
  /** Block -> its points, as in T:1. */
  blocks?: Record<string, string[]>;
}

export interface Model {
  id: string;
  name: string;
  template: string;
  mapping?: { channel?: number | string; data?: Record<string, number | string>; data_offset?: number | string };
}

export interface Template {
  id: string;
  class?: string;
  data_points?: Record<string, { base_id?: number; kind?: Kind; unit?: string; description?: string; value_map?: Record<string, string> }>;
}

export interface Alarm {
  id: string;
  title: string;
  description?: string;
  level: "Critical" | "Major" | "Minor" | "Warning" | "Info";
  source: string;
  status: "New" | "Acknowledged" | "Returned" | "Resolved";
  value?: number | string | null;
  quality?: string | null;
  count?: number | string;
  created_at_ms: number | string;
  returned_at_ms?: number | string | null;
  acknowledged_by?: string | null;
  shelved?: { until_ms: number; by: string } | null;
  suppressed?: unknown;
  uncertain?: boolean;
}

export interface Transition {
  state: string;
  at_ms: number;
  reason?: string;
}

export interface Command {
  id: string;
  channel: number | string;
  type: "C" | "A";
  point: number | string;
  value: number | string;
  state: string;
  reason?: string | null;
  source?: { kind: string; name: string } | string;
  created_at_ms?: number;
  transitions?: Transition[];
}

export interface Page<T> {
  items: T[];
  cursor?: string | null;
}

/** Value, quality and the instant of the last change, as the stream gives them. */
export type Sample = [value: number | null, quality: string, at_ms: number | null];
