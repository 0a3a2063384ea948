// The page: a conversation, coloured by who guessed which words.
import { ServerError, events } from "./stream.js";

// by kind of source: what is copied out of texts, what a model or a head has guessed
const KINDS = { target: "target", suffix: "copied", lookup: "copied", model: "guessed", head: "guessed",
                eagle: "guessed", medusa: "guessed" };
const find = (id) => document.getElementById(id);
const talk = find("talk"), figures = find("figures"), question = find("question");
const messages = [];
const seen = new Set();
let running = null;

const kind = (source) => KINDS[source] ?? "other";

function article(role, text) {
  const node = document.createElement("article");
  node.className = role;
  node.textContent = text;
  talk.append(node);
  return node;
}

function explain(source) {
  if (seen.has(source)) return;
  seen.add(source);
  const entry = document.createElement("li");
  entry.className = kind(source);
  entry.textContent = source;
  find("legend").append(entry);
}

// whoever has scrolled up to read is left there
function following(change) {
  const atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40;
  change();
  if (atEnd) talk.scrollTop = talk.scrollHeight;
}

function append(answer, spans) {
  for (const { source, text } of spans) {
    explain(source);
    const last = answer.lastElementChild;
    if (last?.dataset.source === source) {
      last.textContent += text;
      continue;
    }
    const span = document.createElement("span");
    span.className = kind(source);
    span.dataset.source = source;
    span.title = source;
    span.textContent = text;
    answer.append(span);
  }
}

// what was in the middle of a sentence when the connection ended stays on the page, not in the conversation
async function ask(text) {
  const asked = [...messages, { role: "user", content: text }];
  const body = { messages: asked, stream: true, include_sources: true, stream_options: { include_usage: true },
                 temperature: Number(find("temperature").value), max_tokens: Number(find("limit").value) };
  if (find("reference").value.trim()) body.references = { document: find("reference").value };
  article("user", text);
  const answer = article("assistant", "");
  talk.scrollTop = talk.scrollHeight;
  const counts = {};
  running = new AbortController();
  for await (const event of events("v1/chat/completions", body, find("key").value, running.signal)) {
    if (event.usage) counts.usage = event.usage;
    const more = event.pilotfish;
    if (!more) continue;
    following(() => append(answer, more.sources));
    for (const { source, n_tokens } of more.sources) counts[source] = (counts[source] ?? 0) + n_tokens;
    show(more, counts);
  }
  messages.push(...asked.slice(messages.length), { role: "assistant", content: answer.textContent });
}

function show({ tau, tokens_per_second: speed }, counts) {
  const sources = Object.entries(counts).filter(([name]) => name !== "usage");
  const total = sources.reduce((sum, [, n]) => sum + n, 0);
  const shares = sources.map(([name, n]) => `${name} ${Math.round((100 * n) / total)} %`);
  figures.textContent = [`${total} tokens`, `${speed.toFixed(1)} tokens/s`, `tau ${tau.toFixed(2)}`, ...shares].join(" · ");
}

function busy(is) {
  find("send").disabled = is;
  find("clear").disabled = is;
  find("stop").disabled = !is;
  document.body.dataset.state = is ? "answering" : "ready";
}

async function send() {
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  busy(true);
  try {
    await ask(text);
  } catch (error) {
    if (error.name !== "AbortError") following(() => article("error", error.message));
    if (error instanceof ServerError && error.status === 401) find("keyfield").hidden = false;
  } finally {
    running = null;
    busy(false);
    question.focus();
  }
}

async function greet() {
  const key = find("key").value;
  const response = await fetch("v1/models", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  if (response.status === 401) {
    find("keyfield").hidden = false;
    find("model").textContent = "needs its API key";
    return;
  }
  find("model").textContent = (await response.json()).data[0].id;
}

find("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
find("stop").addEventListener("click", () => running?.abort());
find("clear").addEventListener("click", () => { messages.length = 0; talk.replaceChildren(); question.focus(); });
find("key").addEventListener("change", greet);
explain("target");
busy(false);
greet();
