"use strict";

// Everything that the box or a model says goes in through textContent: no answer can become markup.

const KEY = "lifeboat-token";
const at = (id) => document.getElementById(id);
const chat = { messages: [], stop: null };

function make(tag, className, content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  return node;
}

// --- token ---

function takeTokenFromAddress() {
  const found = /^#token=(lb_[0-9A-Za-z]+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, found[1]);
  history.replaceState(null, "", location.pathname);
}

function showWork(problem) {
  const has = Boolean(sessionStorage.getItem(KEY));
  at("token-form").hidden = has;
  at("work").hidden = !has;
  at("forget").hidden = !has;
  at("token-error").hidden = !problem;
  at("token-error").textContent = problem || "";
  (has ? at("ask-input") : at("token")).focus();
}

function forget(problem) {
  sessionStorage.removeItem(KEY);
  showWork(problem);
}

// --- the wire ---

class Refused extends Error {}

class Interrupted extends Refused {
  constructor(words, resumeId) {
    super(words);
    this.resumeId = resumeId;
  }
}

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json", Authorization: "Bearer " + sessionStorage.getItem(KEY) };
  const asked = body ? { method: "POST", body: JSON.stringify(body) } : { method: "GET" };
  const response = await fetch(path, { ...asked, headers, signal });
  if (response.ok) return response;
  if (response.status === 401) forget("This box does not know that token, or it has expired.");
  let words = "The box answered " + response.status + ".";
  try { words = (await response.json()).error.message; } catch { /* the status is what there is to say */ }
  throw new Refused(words);
}

function problem(error) {
  if (error instanceof Refused) return error.message;
  return error.name === "AbortError" ? "Stopped." : "The box cannot be reached.";
}

// --- mode and banner ---

function showMode(mode) {
  at("mode").textContent = mode;
  at("mode").dataset.mode = mode;
}

function showBanner(words) {
  at("banner").textContent = words || "";
  at("banner").hidden = !words;
}

function showServed(lifeboat) {
  if (!lifeboat) return;
  showMode(lifeboat.mode);
  showBanner(lifeboat.banner);
}

async function watchMode() {
  if (document.hidden) return;
  try {
    const status = await (await fetch("/status.json")).json();
    showMode(status.mode);
    if (status.mode === "NORMAL") showBanner("");
  } catch {
    showMode("no contact");
    at("mode").dataset.mode = "GONE";
  }
}

// --- answers ---

function served(lifeboat) {
  const tags = make("div", "tags");
  const mode = make("span", "tag", lifeboat.mode);
  mode.dataset.mode = lifeboat.mode;
  tags.append(mode, make("span", "tag", "rung: " + lifeboat.rung), make("span", "tag", "served by: " + lifeboat.served_by));
  if (typeof lifeboat.confidence === "number") tags.append(make("span", "tag", "confidence: " + percent(lifeboat.confidence)));
  return tags;
}

function citations(list) {
  return (list || []).map((cited) => {
    const quote = make("blockquote", "", cited.quote);
    quote.append(make("cite", "", cited.source + ", characters " + cited.start + " to " + cited.end));
    return quote;
  });
}

function why(reasons) {
  if (!reasons || !reasons.length) return [];
  const details = make("details");
  details.append(make("summary", "", "Why not the rungs above it"));
  const list = make("ul");
  list.append(...reasons.map((reason) => make("li", "", reason)));
  details.append(list);
  return [details];
}

function finish(card, lifeboat) {
  if (!lifeboat) return;
  showServed(lifeboat);
  card.append(...citations(lifeboat.citations), served(lifeboat), ...why(lifeboat.reason));
}

function percent(share) {
  return Math.round(share * 100) + " %";
}

async function ask(question) {
  const found = await (await call("/v1/ask", { question })).json();
  const card = make("article", "card");
  const quotes = [...new Set(found.citations.map((cited) => cited.quote))];
  if (found.answer !== quotes.join("\n\n")) card.append(make("p", "answer", found.answer)); // else the quotes say it
  finish(card, found.lifeboat);
  at("ask-out").replaceChildren(card);
}

async function route(input) {
  const found = await (await call("/v1/route", { input })).json();
  const card = make("article", "card");
  card.append(make("h2", "", found.abstained || found.label === null ? "No route: a person should look" : found.label));
  const table = make("table");
  for (const candidate of found.candidates) {
    const row = make("tr");
    const gauge = make("meter");
    gauge.value = candidate.confidence;
    gauge.setAttribute("aria-label", candidate.label);
    const cell = make("td");
    cell.append(gauge);
    row.append(make("th", "", candidate.label), cell, make("td", "", percent(candidate.confidence)));
    table.append(row);
  }
  card.append(make("p", "meta", "confidence " + percent(found.confidence)), table);
  at("route-out").replaceChildren(card);
}

async function search(query) {
  const found = await (await call("/v1/search", { query, top_k: 8 })).json();
  const cards = found.hits.map((hit) => {
    const card = make("article", "card");
    const place = hit.source + ", characters " + hit.start + " to " + hit.end + ", score " + hit.score.toFixed(2);
    card.append(make("p", "answer", hit.text), make("p", "meta", place));
    return card;
  });
  at("search-out").replaceChildren(...(cards.length ? cards : [make("p", "hint", "Nothing found.")]));
}

// --- chat ---

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function stream(response, words) {
  let lifeboat = null;
  let whole = false;
  for await (const data of events(response)) {
    if (data === "[DONE]") { whole = true; break; }
    const chunk = JSON.parse(data);
    lifeboat = chunk.lifeboat || lifeboat;
    if (chunk.error) throw new Interrupted(chunk.error.message, chunk.error.resume_id);
    const choice = (chunk.choices || [])[0];
    if (choice && choice.delta && choice.delta.content) words.textContent += choice.delta.content;
    words.scrollIntoView({ block: "end" });
  }
  if (!whole) throw new Refused("The answer broke off; what you see is not the whole answer.");
  return lifeboat;
}

// The part that broke off stays until the whole answer of another rung is there.
async function instead(error, words, signal) {
  if (!error.resumeId) throw error;
  const found = await (await call("/v1/chat/completions/" + error.resumeId, null, signal)).json();
  words.textContent = found.choices[0].message.content;
  return found.lifeboat;
}

async function answered(body, words, signal) {
  try {
    return await stream(await call("/v1/chat/completions", body, signal), words);
  } catch (error) {
    return await instead(error, words, signal);
  }
}

async function talk(text) {
  const mine = make("article", "card mine");
  mine.append(make("p", "answer", text));
  const theirs = make("article", "card theirs working");
  const words = make("p", "answer");
  theirs.append(words);
  at("chat-out").append(mine, theirs);
  chat.messages.push({ role: "user", content: text });
  chat.stop = new AbortController();
  at("chat-stop").hidden = false;
  try {
    const body = { model: "auto", messages: chat.messages, stream: true };
    const lifeboat = await answered(body, words, chat.stop.signal);
    chat.messages.push({ role: "assistant", content: words.textContent });
    finish(theirs, lifeboat);
  } catch (error) {
    chat.messages.pop(); // an unanswered or broken turn is not sent again as if it were whole
    theirs.append(make("p", "error", problem(error)));
  } finally {
    theirs.classList.remove("working");
    at("chat-stop").hidden = true;
    theirs.scrollIntoView({ block: "nearest" });
  }
}

// --- the page ---

const DOES = { ask, chat: talk, route, search };

async function submitted(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const name = form.dataset.does;
  const input = at(name + "-input");
  const button = form.querySelector("button[type=submit]");
  const text = input.value.trim();
  if (!text || button.disabled) return;
  button.disabled = true;
  if (name === "chat") input.value = "";
  try {
    await DOES[name](text);
  } catch (error) {
    at(name + "-out").replaceChildren(make("p", "error", problem(error)));
  } finally {
    button.disabled = false;
    input.focus();
  }
}

function choose(tab) {
  for (const each of document.querySelectorAll("[role=tab]")) {
    const on = each === tab;
    each.setAttribute("aria-selected", String(on));
    each.tabIndex = on ? 0 : -1;
    at(each.getAttribute("aria-controls")).hidden = !on;
  }
  tab.focus();
}

function tabKey(event) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const here = tabs.indexOf(event.currentTarget);
  const there = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (there === undefined) return;
  event.preventDefault();
  choose(tabs[(there + tabs.length) % tabs.length]);
}

function start() {
  takeTokenFromAddress();
  addEventListener("hashchange", () => { takeTokenFromAddress(); showWork(); });
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, at("token").value.trim());
    at("token").value = "";
    showWork();
  });
  at("forget").addEventListener("click", () => forget());
  at("chat-stop").addEventListener("click", () => chat.stop && chat.stop.abort());
  at("chat-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.currentTarget.form.requestSubmit();
  });
  for (const form of document.querySelectorAll("form[data-does]")) form.addEventListener("submit", submitted);
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", tabKey);
  }
  showWork();
  watchMode();
  setInterval(watchMode, 5000);
}

start();
