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

/** Who keeps an alarm quiet, which of its names they marked (`group:feeder`), and why. */
export interface Mark {
  by: string;
  name?: string;
  comment?: string;
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
  shelved?: (Mark & { until_ms: number | null; one_shot?: boolean }) | null;
  suppressed?: Mark | null;
  out_of_service?: Mark | null;
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

export interface Definition extends Kept {
  name?: string;
  source: string;
  detector: string;
  limit?: number | string | null;
  other?: string;
  window_ms?: number;
  deadband?: number;
  deadband_percent?: number;
  on_delay_ms?: number;
  off_delay_ms?: number;
  latching?: boolean;
  level: string;
  message?: string;
  area?: string;
  equipment?: string;
  enabled?: boolean;
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

/** What rules and alarm definitions have in common. */
export interface Kept {
  id: string;
  version: number;
  author: string;
  requires_approval?: boolean;
  warnings?: string[];
}

export interface Rule extends Kept {
  name: string;
  description?: string;
  enabled: boolean;
  priority: number;
}

/** What differs at a path; `null` where nothing stood or stands. */
export interface Difference {
  path: string;
  old: unknown;
  new: unknown;
}

export interface Version {
  version: number;
  action: string;
  author: string;
  at_ms: number;
  reason?: string;
  approved_by?: string;
  of_version?: number;
}

export interface Proposal {
  id: string;
  of: string;
  action: "change" | "rollback" | "delete";
  of_version?: number;
  by: string;
  reason?: string;
  created_at_ms: number;
  expires_at_ms: number;
  changes?: Difference[];
}

/** A definition that runs beside the active one and only notes. */
export interface Shadow {
  of: string;
  by: string;
  reason?: string;
  started_at_ms: number;
  definition: object;
}

interface Side {
  fired: number;
  on_ms: number;
  on: boolean;
}

export interface Comparison {
  start_ms: number;
  end_ms: number;
  changes: Difference[];
  active: Side;
  shadow: Side;
  same_percent: number;
  differences: { only: "active" | "shadow"; from_ms: number; to_ms: number | null }[];
  /** Firings that differ: what the actions of both came to, `null` where one did not fire. */
  apart: { at_ms: number; active: RuleAction[] | null; shadow: RuleAction[] | null }[];
  actions: Record<string, { done?: number; withheld?: number }>;
}

/** What an action came to when a rule fired, or would come to now. */
export interface RuleAction {
  type: string;
  result?: string;
  would?: string;
  problem?: string;
  over?: string;
}

export interface Firing {
  id: string;
  rule: string;
  event: string;
  at_ms: number | string;
  actions: RuleAction[];
}

/** A condition of a rule, or several of them; `null` is unknown. */
export interface Condition {
  path: string;
  result: boolean | null;
  kind?: "all" | "any" | "not";
  conditions?: Condition[];
  source?: string;
  time?: unknown;
  operator?: string;
  value?: unknown;
  other?: number | string | null;
  actual?: number | string | null;
  quality: string;
  aggregate?: string;
  window_ms?: number;
  for_ms?: number;
  missing?: string;
  hold?: { until_ms?: number | null; paused?: boolean; left_ms?: number };
}

/** Why a rule is as it is. */
export interface Explanation {
  active: boolean;
  why: string;
  decided_by: string[];
  cooldown_until_ms: number | null;
  conditions: Condition;
  actions: RuleAction[];
}

export interface Page<T> {
  items: T[];
  cursor?: string | null;
}

/** Value, quality and the instant of the last change, as the stream gives them. */
/** A text point has a text as its value. */
export type Sample = [value: number | string | null, quality: string, at_ms: number | null];
