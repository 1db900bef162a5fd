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
  updated_at_ms?: number | string;
  definition?: string;
  comment?: string | null;
  area?: string;
  group?: string;
  shelved?: { until_ms: number | null; by: string; one_shot?: boolean } | null;
  suppressed?: { by: string } | null;
  out_of_service?: { by: string } | null;
  uncertain?: boolean;
  latched?: boolean;
  first_out?: boolean;
}

/** What an operator needs to know when an alarm comes. */
export interface Guidance {
  cause?: string;
  consequence?: string;
  action?: string;
  time_to_respond_ms?: number;
}

export interface Definition {
  id: string;
  guidance?: Guidance | string | null;
}

/** An entry of the journal of alarms. */
export interface Entry {
  id: string;
  at_ms: number;
  event: string;
  status: string;
  value?: string;
  quality?: string;
  user?: string;
  comment?: string;
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
/** A text point has a text as its value. */
export type Sample = [value: number | string | null, quality: string, at_ms: number | null];
