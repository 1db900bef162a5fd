/** The versions of a definition: who, why, what differs, and the way back. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api, atLeast } from "./auth";
import { AskReason } from "./ask";
import { formatInstant } from "./format";
import type { Difference, Kept, Page, Version } from "./model";
import { Changes } from "./proposals";
import * as store from "./store";

const FIRST = 5;

export function Versions({ path, of, changed }: { path: string; of: Kept; changed: () => void }) {
  const { found, problem } = useRead<Page<Version>>(`${path}/versions`, String(of.version));
  const all = useSignal(false);
  const items = found.value?.items ?? [];
  return (
    <div role="group" class="versions" aria-label="Versions">
      <h3>Versions</h3>
      {problem.value && <p class="problem">{problem}</p>}
      <ul>
        {items.slice(0, all.value ? undefined : FIRST).map((one) => (
          <Row key={one.version} path={path} of={of} version={one} changed={changed} />
        ))}
      </ul>
      {items.length > FIRST && !all.value && (
        <button type="button" class="quiet" onClick={() => (all.value = true)}>
          {`All ${items.length}`}
        </button>
      )}
    </div>
  );
}

interface Of {
  path: string;
  of: Kept;
  version: Version;
  changed: () => void;
}

function Row(props: Of) {
  const { version } = props;
  const open = useSignal(false);
  const what = version.action.replaceAll("_", " ") + (version.of_version ? ` to ${version.of_version}` : "");
  const who = `${version.author}${version.approved_by ? `, approved by ${version.approved_by}` : ""}`;
  return (
    <li>
      <button type="button" class="name" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <i class="caret" aria-hidden="true" />
        {`Version ${version.version}: ${what}`}
      </button>
      <small>
        {[formatInstant(version.at_ms, store.now.peek()), who, version.reason && `“${version.reason}”`]
          .filter(Boolean)
          .join(" · ")}
      </small>
      {open.value && <Opened {...props} />}
    </li>
  );
}

function Opened({ path, of, version, changed }: Of) {
  const number = version.version;
  const { found, problem } = useRead<{ changes: Difference[] }>(`${path}/diff?to=${number}`, "");
  const older = number < of.version && version.action !== "deleted";
  const bringBack = async (reason: string | undefined) => {
    const body = { version: number, reason };
    if (of.requires_approval) await api("POST", `${path}/proposals`, body);
    else await api("POST", `${path}/rollback`, body, of.version);
    changed();
  };
  const beside = async (reason: string | undefined) => {
    await api("PUT", `${path}/shadow`, { version: number, reason });
    changed();
  };
  return (
    <div class="opened">
      {problem.value && <p class="problem">{problem}</p>}
      {found.value && number > 1 && <Changes changes={found.value.changes} />}
      {number === 1 && <p class="hint">The first one.</p>}
      {older && atLeast("engineer") && (
        <div class="acts">
          <AskReason
            label={of.requires_approval ? `Propose version ${number} again` : `Bring version ${number} back`}
            action={of.requires_approval ? "Propose" : "Bring back"}
            run={bringBack}
          />
          <AskReason label={`Run version ${number} as a shadow`} action="Run as a shadow" run={beside} />
        </div>
      )}
    </div>
  );
}

/** Reads once, and anew when the key changes. */
function useRead<T>(url: string, key: string) {
  const found = useSignal<T | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    let gone = false;
    api<T>("GET", url)
      .then((read) => {
        if (!gone) [found.value, problem.value] = [read, ""];
      })
      .catch((error: Error) => {
        if (!gone) problem.value = error.message;
      });
    return () => {
      gone = true;
    };
  }, [url, key]);
  return { found, problem };
}
