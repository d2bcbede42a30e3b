// Reads /admin/state every two seconds and shows it. The key stays in this tab.
"use strict";

const byId = (id) => document.getElementById(id);
const usd = (value) => value === null ? "-" : "$" + (value < 1 ? value.toPrecision(3) : value.toFixed(2));
const seconds = (value) => value === null ? "-" : value < 1 ? Math.round(value * 1000) + " ms" : value.toFixed(2) + " s";
const count = (value) => value === null ? "-" : value.toLocaleString("en");
let last = null; // the requests counted, and when: for the rate since then
const percent = (value) => (100 * value).toFixed(0) + " %";

function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    if (cell instanceof Node) td.append(cell);
    else if (Array.isArray(cell)) { td.textContent = cell[0]; td.className = cell[1]; }
    else td.textContent = cell;
    made.append(td);
  }
  return made;
}

function fill(id, rows) {
  document.querySelector("#" + id + " tbody").replaceChildren(...rows);
}

function bar(spent, reserved, limit) {
  const made = document.createElement("progress");
  made.max = 1;
  made.value = limit > 0 ? Math.min((spent + reserved) / limit, 1) : 1;
  made.title = percent(made.value) + " of " + usd(limit);
  return made;
}

function rate(state) {
  const now = performance.now() / 1000;
  const shown = last === null || state.requests < last.requests || now - last.time < 0.5
    ? state.requests_per_second : (state.requests - last.requests) / (now - last.time);
  last = { requests: state.requests, time: now };
  return shown;
}

function figures(state) {
  const shown = {
    "requests": count(state.requests),
    "requests a second": rate(state).toFixed(1),
    "spent": usd(state.spent_usd),
    "mean cost": usd(state.mean_cost_usd),
    "price of a dollar": state.price.toPrecision(3),
    "in flight": count(state.in_flight),
    "refused": count(state.refused),
    "workers": count(state.workers),
  };
  byId("figures").replaceChildren(...Object.entries(shown).map(([name, value]) => {
    const div = document.createElement("div");
    const label = document.createElement("span");
    const figure = document.createElement("b");
    label.textContent = name;
    figure.textContent = value;
    div.append(label, figure);
    return div;
  }));
}

function show(state) {
  const status = byId("status");
  status.className = state.ok ? "good" : "bad";
  status.textContent = state.ok ? "serving" : state.trouble.join("; ");
  figures(state);
  fill("pool", state.pool.map((d) => row([
    d.name, [d.state, d.state], count(d.in_flight), count(d.waiting), count(d.answers),
    d.failures ? [count(d.failures), "failed"] : "0", seconds(d.p50), seconds(d.p99), seconds(d.first_p50),
    count(d.input_tokens) + " / " + count(d.output_tokens), usd(d.spent_usd), percent(d.share),
  ])));
  byId("no-budgets").hidden = state.budgets.length > 0;
  fill("budgets", state.budgets.map((b) => row([
    b.name, b.holder, b.period, usd(b.spent_usd), usd(b.reserved_usd), usd(b.left_usd),
    bar(b.spent_usd, b.reserved_usd, b.limit_usd),
    b.ends === null ? "never" : new Date(b.ends * 1000).toLocaleString(),
  ])));
  fill("recent", state.recent.map((r) => row([
    new Date(r.time * 1000).toLocaleTimeString(), r.id, r.key ?? "-", r.model,
    r.fallback_from ? r.destination + " (for " + r.fallback_from + ")" : r.destination,
    r.status === 200 ? ["200", "ok"] : [r.status + " " + (r.error_type ?? ""), "failed"],
    count(r.input_tokens) + " / " + count(r.output_tokens), usd(r.cost_usd), seconds(r.latency_s),
  ])));
}

async function refresh() {
  const key = sessionStorage.getItem("turnout-admin-key");
  const headers = key ? { authorization: "Bearer " + key } : {};
  const status = byId("status");
  try {
    const answer = await fetch("admin/state", { headers, cache: "no-store" });
    if (answer.status === 401 || answer.status === 403) {
      sessionStorage.removeItem("turnout-admin-key");
      byId("login").hidden = false;
      byId("main").hidden = true;
      status.className = "";
      status.textContent = key ? "that key may not look" : "a key with the admin scope is needed";
      return;
    }
    byId("login").hidden = true;
    byId("main").hidden = false;
    show(await answer.json());
  } catch (error) {
    status.className = "bad";
    status.textContent = "the gateway does not answer";
  }
  setTimeout(refresh, 2000);
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("turnout-admin-key", byId("key").value);
  byId("key").value = "";
  refresh();
});
refresh();
