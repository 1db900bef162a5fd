/** What stands beside definitions: proposals that wait and shadows, for rules and alarm definitions alike. */
import { api } from "./auth";
import type { Kept, Page, Proposal, Shadow } from "./model";
import { ProposalBox } from "./proposals";
import { ShadowBox } from "./shadow";
import { Versions } from "./versions";

const MOST = 100;

export interface Beside {
  proposals: Proposal[];
  shadows: Shadow[];
}

export async function readBeside(path: string): Promise<Beside> {
  const [proposals, shadows] = await Promise.all([
    api<Page<Proposal>>("GET", `${path}/proposals?status=pending&limit=${MOST}`),
    api<Page<Shadow>>("GET", `${path}/shadows?limit=${MOST}`),
  ]);
  return { proposals: proposals.items, shadows: shadows.items };
}

export const besideOf = ({ proposals, shadows }: Beside, id: string): Beside => ({
  proposals: proposals.filter((one) => one.of === id),
  shadows: shadows.filter((one) => one.of === id),
});

/** How many wait, for the head of a panel. */
export const waitingText = ({ proposals }: Beside): string =>
  proposals.length > 1 ? `${proposals.length} proposals wait` : proposals.length ? "1 proposal waits" : "";

/** Words in the row of a definition, so that nobody need open it to know. */
export function Marks({ of, beside }: { of: Kept; beside: Beside }) {
  if (!beside.proposals.length && !beside.shadows.length && !of.warnings) return null;
  return (
    <small class="marks">
      {beside.proposals.length > 0 && (
        <span class="mark">{beside.proposals.length > 1 ? `${beside.proposals.length} proposals` : "proposal"}</span>
      )}
      {beside.shadows.length > 0 && <span class="mark">shadow</span>}
      {of.warnings && <span class="mark">{of.warnings.length > 1 ? `${of.warnings.length} warnings` : "warning"}</span>}
    </small>
  );
}

/** What a definition names and there is not. */
export const Warnings = ({ of }: { of: Kept }) => (
  <>
    {of.warnings?.map((text) => (
      <p key={text} class="problem">
        {text}
      </p>
    ))}
  </>
);

interface Around {
  path: string;
  of: Kept;
  beside: Beside;
  changed: () => void;
}

export const Proposals = ({ path, beside, changed }: Around) => (
  <>
    {beside.proposals.map((one) => (
      <ProposalBox key={one.id} path={path} proposal={one} changed={changed} />
    ))}
  </>
);

export const ShadowAndVersions = ({ path, of, beside, changed }: Around) => (
  <>
    {beside.shadows.map((one) => (
      <ShadowBox key={one.started_at_ms} path={path} of={of} shadow={one} changed={changed} />
    ))}
    <Versions path={path} of={of} changed={changed} />
  </>
);
