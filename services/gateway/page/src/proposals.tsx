/** Changes that wait for a second person: what they would change, and the two buttons of who may decide. */
import { useSignal } from "@preact/signals";
import { commentOf, Problem, useAct, WhyInput } from "./act";
import { api, atLeast, user } from "./auth";
import { formatAge, formatInstant } from "./format";
import type { Difference, Proposal } from "./model";
import * as store from "./store";

const ACTIONS: Record<string, string> = { change: "a change", delete: "to delete it", rollback: "to bring version N back" };

/** Who proposed: a file that a person applied is that person's. */
const personOf = (by: string): string => by.replace(/^file:/, "");

export function ProposalBox({ path, proposal, changed }: { path: string; proposal: Proposal; changed: () => void }) {
  const comment = useSignal("");
  const { busy, problem, act } = useAct();
  const now = store.now.value;
  const own = personOf(proposal.by) === user.value?.name;
  const decide = (decision: "approve" | "reject") =>
    act(async () => {
      await api("POST", `${path}/proposals/${proposal.id}/${decision}`, commentOf(comment));
      changed();
    });
  const what = ACTIONS[proposal.action]!.replace("N", String(proposal.of_version));
  return (
    <div role="group" class="waiting" aria-label={`Proposal of ${proposal.by}`}>
      <p>
        <strong>{`${own ? "You propose" : `${proposal.by} proposes`} ${what}`}</strong>
        {proposal.reason && <> “{proposal.reason}”</>}
        <small>{` ${formatInstant(proposal.created_at_ms, now)}, open for ${formatAge(proposal.expires_at_ms - now)} more`}</small>
      </p>
      {proposal.action !== "delete" && <Changes changes={proposal.changes ?? []} />}
      {own && <p class="hint">Another engineer approves it.</p>}
      {!atLeast("engineer") && <p class="hint">An engineer approves or rejects it.</p>}
      {atLeast("engineer") && (
        <form class="shelving" onSubmit={(event) => event.preventDefault()}>
          <WhyInput label="Comment" text={comment} />
          {!own && (
            <button type="button" class="primary" disabled={busy.value} onClick={() => void decide("approve")}>
              Approve
            </button>
          )}
          <button type="button" disabled={busy.value} onClick={() => void decide("reject")}>
            {own ? "Take back" : "Reject"}
          </button>
        </form>
      )}
      <Problem text={problem} />
    </div>
  );
}

/** What differs between two definitions, each with its path. */
export function Changes({ changes }: { changes: Difference[] }) {
  if (!changes.length) return <p class="hint">They say the same.</p>;
  return (
    <ul class="diff">
      {changes.map((one) => (
        <li key={one.path}>
          <code>{one.path}</code>{" "}
          {one.old !== null && (
            <del>
              <span class="visually-hidden">was </span>
              {textOf(one.old)}
            </del>
          )}{" "}
          {one.new !== null && (
            <ins>
              <span class="visually-hidden">now </span>
              {textOf(one.new)}
            </ins>
          )}
        </li>
      ))}
    </ul>
  );
}

const textOf = (value: unknown): string => (typeof value === "string" ? value || "“”" : JSON.stringify(value));
