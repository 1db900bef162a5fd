/** The page: who is logged in decides what is drawn. */
import { effect } from "@preact/signals";
import { render } from "preact";
import { AlarmPanel } from "./alarms";
import { loginByLink, refresh, takeLink, user } from "./auth";
import { CommandPanel } from "./commands";
import { DefinitionPanel } from "./definitions";
import { DeviceList } from "./devices";
import { Banner, Header } from "./header";
import { Login, loginProblem } from "./login";
import { Overview } from "./overview";
import { RulePanel } from "./rules";
import { start, stop } from "./stream";
import "./style.css";
import { applyTheme } from "./theme";
import { TrendPanel } from "./trend";

function Page() {
  if (user.value === undefined) return <p class="loading">Connecting…</p>;
  if (user.value === null) return <Login />;
  return (
    <>
      <a class="skip" href="#alarms">
        Skip to alarms
      </a>
      <Header />
      <Banner />
      <main>
        <Overview />
        <div class="side">
          <AlarmPanel />
          <TrendPanel />
          <CommandPanel />
          <RulePanel />
          <DefinitionPanel />
        </div>
        <DeviceList />
      </main>
    </>
  );
}

async function open(): Promise<void> {
  const link = takeLink();
  if (link !== null) {
    try {
      await loginByLink(link);
      return;
    } catch (error) {
      loginProblem.value = (error as Error).message;
    }
  }
  await refresh();
}

applyTheme();
render(<Page />, document.getElementById("app")!);

let running = false;
effect(() => {
  const inside = !!user.value;
  if (inside !== running) {
    running = inside;
    if (inside) start();
    else stop();
  }
});
void open();
