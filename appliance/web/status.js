"use strict";

const WORDS = {
  NORMAL: ["Everything works", "The first provider answers."],
  WATCH: ["Everything works, slowly", "The first provider answers later than usual."],
  DEGRADED: ["Running on a stand-in", "The first provider does not answer; another one does."],
  LOCAL: ["The box answers by itself", "No provider can be reached. Answers come from this box."],
};

function text(id, value) {
  document.getElementById(id).textContent = value;
}

function row(rung) {
  const tr = document.createElement("tr");
  for (const [key, value] of [["rung", rung.rung], ["kind", rung.kind], ["state", rung.state]]) {
    const cell = document.createElement(key === "rung" ? "th" : "td");
    if (key === "rung") cell.scope = "row";
    if (key === "state") {
      const mark = document.createElement("span");
      mark.className = "state";
      mark.dataset.state = value;
      mark.textContent = value;
      cell.append(mark);
    } else {
      cell.textContent = value;
    }
    tr.append(cell);
  }
  return tr;
}

function show(status) {
  const mode = document.getElementById("mode");
  mode.textContent = status.mode;
  mode.dataset.mode = status.mode;
  const [headline, detail] = WORDS[status.mode] || [status.mode, ""];
  text("headline", status.ready ? headline : "Nothing here can answer");
  text("detail", status.ready ? detail : "Only the hand-off message is left. Please tell your administrator.");
  text("version", String(status.version));
  text("time", new Date().toLocaleTimeString());
  document.getElementById("rungs").replaceChildren(...status.rungs.map(row));
}

async function look() {
  try {
    const response = await fetch("/status.json");
    if (!response.ok) throw new Error(String(response.status));
    show(await response.json());
  } catch {
    const mode = document.getElementById("mode");
    mode.textContent = "no contact";
    mode.dataset.mode = "GONE";
    text("headline", "The box does not answer");
    text("detail", "It may be starting. This page asks again every five seconds.");
  }
}

look();
setInterval(look, 5000);
