// The page: asks the server it came from, and shows what that says. Text from objects goes into the page as text only.
"use strict";

const ROWS = 300; // Changes that are shown; older ones fall off.
const LOOK_BACK = 200; // Revisions whose changes are shown at first.
const PAGE = 100; // Objects of a kind that are listed at once.
const CONTEXT = 3; // Unchanged lines around a change.
const DIFF_CELLS = 4_000_000; // Lines of one side times those of the other; beyond it nothing is compared line by line.
const SILENCE = 25_000; // Milliseconds without a line after which a stream is taken for lost.

const find = (selector) => document.querySelector(selector);
const state = { key: "", seen: 0, isPaused: false, isLive: false };

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

async function ask(path, accept = "application/json") {
  const response = await fetch(path.replace(/^\//, ""), { headers: { Accept: accept }, cache: "no-store" });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message ?? response.statusText);
  return answer;
}

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function size(bytes) {
  if (bytes === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit += 1) bytes /= 1024;
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

// Replaces what is shown only if it differs, so that a selection or the focus in it survives.
function show(parent, children) {
  const isSame = parent.children.length === children.length
    && children.every((child, place) => child.isEqualNode(parent.children[place]));
  if (!isSame) parent.replaceChildren(...children);
}

// Puts items in their places; those that stay keep the focus.
function arrange(list, items) {
  if (items.length === list.children.length && items.every((item, place) => item === list.children[place])) return;
  const focused = document.activeElement;
  list.replaceChildren(...items);
  if (list.contains(focused)) focused.focus({ preventScroll: true });
}

// ---- Nodes ----

function showMembers(told) {
  const name = (id) => told.members.find((member) => member.id === id)?.name || id;
  const fact = (label, text) => element("div", {}, element("dt", {}, label), element("dd", {}, text));
  show(find("#facts"), [
    fact("cluster", told.cluster),
    fact("leader", told.leader === null ? "none" : name(told.leader)),
    fact("term", String(told.term)),
    fact("revision", String(told.revision)),
    fact("history from", String(Math.max(told.compacted, 1))),
    fact("version", told.version),
  ]);
  const cell = (label, text, kind) => element("td", { class: kind ?? "", "data-label": label }, text);
  const text = (value) => (value === undefined || value === null ? "\u2013" : String(value));
  show(find("#nodes tbody"), told.members.map((member) => element("tr", {},
    element("td", {}, member.name || member.id, member.isAsked ? element("span", { class: "tag" }, "this page") : null),
    element("td", { class: member.role === "leader" ? "leader" : member.complaint ? "silent" : "" }, member.role),
    cell("term", text(member.term), "number"),
    cell("revision", text(member.revision), "number"),
    cell("lag", member.role === "leader" ? "\u2013" : text(member.lag), "number"),
    element("td", { class: "number", "data-label": "database", title: member.databaseBytes === undefined ? "" : `${size(member.databaseBytesInUse)} of it in use` },
      size(member.databaseBytes) || "\u2013"),
    element("td", { class: "soft" }, member.complaint ?? member.clientURLs.join(", ")),
  )));
  const troubles = new Set(told.members.flatMap((member) => member.errors ?? []));
  if (told.leader === null) troubles.add("No leader is known here: nothing can be written, and what is shown may be old.");
  say([...troubles].join("\n"));
}

function say(trouble) {
  const place = find("#trouble");
  if (place.textContent !== trouble) place.textContent = trouble;
  place.hidden = trouble === "";
}

function setLive(text, kind) {
  const place = find("#state");
  state.isLive = kind === "live";
  place.className = kind;
  if (place.textContent !== text) place.textContent = text;
}

async function watchMembers() {
  for (;;) {
    if (!document.hidden) {
      try {
        showMembers(await ask("holdfast/members"));
      } catch (error) {
        if (!state.isLive) say(`The server does not answer: ${error.message}`);
      }
    }
    await sleep(2000);
  }
}

// ---- Kinds ----

const expanded = new Map(); // By prefix: the list under a kind.
let countsAreOld = true;

function showCounts(told) {
  const present = told.kinds.filter((kind) => kind.count > 0 || expanded.has(kind.prefix));
  const absent = told.kinds.filter((kind) => !present.includes(kind));
  const list = find("#kinds .kinds");
  const shown = new Map([...list.children].map((item) => [item.dataset.prefix, item]));
  present.sort((one, other) => one.kind.localeCompare(other.kind));
  const items = present.map((kind) => {
    const item = shown.get(kind.prefix) ?? kindItem(kind);
    const count = item.querySelector(".number");
    if (count.textContent !== String(kind.count)) {
      count.textContent = String(kind.count);
      if (expanded.has(kind.prefix)) listObjects(kind, item);
    }
    return item;
  });
  arrange(list, items);
  const rest = find("#kinds details");
  rest.hidden = absent.length === 0;
  rest.querySelector("summary").textContent = `${absent.length} without objects`;
  rest.querySelector("p").textContent = absent.map((kind) => kind.kind).join(", ");
}

function kindItem(kind) {
  const item = element("li", {});
  item.dataset.prefix = kind.prefix;
  const button = element("button", { type: "button", title: kind.apiVersion, "aria-expanded": "false" },
    element("span", { class: "kind" }, kind.kind), element("span", { class: "number" }));
  button.addEventListener("click", () => {
    const isOpen = expanded.delete(kind.prefix);
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) item.querySelector(".objects")?.remove();
    else {
      expanded.set(kind.prefix, PAGE);
      listObjects(kind, item);
    }
  });
  item.append(button);
  return item;
}

async function listObjects(kind, item) {
  const limit = expanded.get(kind.prefix);
  let entries;
  try {
    const list = await ask(`${kind.path}?resourceVersion=0&limit=${limit}`, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    entries = list.items.map(({ metadata }) => {
      const path = kind.namespaced ? `${metadata.namespace}/${metadata.name}` : metadata.name;
      return element("li", {}, element("a", { href: hashOf(kind.prefix + path) }, path));
    });
    if (list.metadata.continue) {
      const more = element("button", { type: "button" }, "More");
      more.addEventListener("click", () => {
        expanded.set(kind.prefix, Math.min(limit + PAGE, 10 * PAGE));
        listObjects(kind, item);
      });
      entries.push(element("li", {}, limit < 10 * PAGE ? more : element("span", { class: "soft" }, "and more: kubectl lists them all")));
    }
  } catch (error) {
    entries = [element("li", { class: "silent" }, error.message)];
  }
  if (!expanded.has(kind.prefix)) return;
  let list = item.querySelector(".objects");
  if (!list) item.append(list = element("ul", { class: "objects" }));
  show(list, entries);
}

async function watchCounts() {
  for (let turn = 0; ; turn += 1) {
    // Once after changes, and now and then anyway.
    if (!document.hidden && (countsAreOld || turn % 10 === 0)) {
      countsAreOld = false;
      try {
        showCounts(await ask("holdfast/counts"));
      } catch {
        countsAreOld = true;
      }
    }
    await sleep(1000);
  }
}

// ---- Changes ----

const WORDS = { ADDED: "+ added", MODIFIED: "~ modified", DELETED: "\u2212 deleted" };
const kept = []; // The newest first.
let waiting = [];
let isFirst = true;

function matches(change) {
  const text = `${change.type} ${change.kind ?? ""} ${change.namespace ?? ""}/${change.name}`.toLowerCase();
  const words = find("#filter").value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  return words.every((word) => (word.startsWith("-") ? !text.includes(word.slice(1)) : text.includes(word)));
}

function time(text) {
  if (!text) return element("td", { class: "soft nowrap", title: "Before this page was opened" }, "earlier");
  const when = new Date(text);
  const isToday = when.toDateString() === new Date().toDateString();
  return element("td", { class: "soft nowrap", title: text }, isToday ? when.toLocaleTimeString([], { hour12: false }) : when.toLocaleDateString());
}

const nameOf = (told) => (told.namespace ? `${told.namespace}/${told.name}` : told.name);

function changeRow(change) {
  const row = element("tr", {},
    time(change.time),
    element("td", { class: `nowrap ${change.type in WORDS ? change.type : ""}` }, WORDS[change.type] ?? change.type),
    element("td", { title: change.apiVersion ?? "" }, change.kind ?? "?"),
    element("td", {}, element("a", { href: hashOf(change.key) }, nameOf(change))),
    element("td", { class: "number" }, String(change.revision)));
  row.dataset.key = change.key;
  row.classList.toggle("chosen", change.key === state.key);
  return row;
}

function showChanges() {
  const body = find("#changes tbody");
  if (state.isPaused) {
    find("#pause").textContent = waiting.length > 0 ? `Go on (${waiting.length})` : "Go on";
    return;
  }
  const fresh = waiting;
  waiting = [];
  kept.unshift(...fresh.reverse());
  kept.length = Math.min(kept.length, ROWS);
  const rows = fresh.slice(0, ROWS).filter(matches).map(changeRow);
  if (!isFirst) rows.forEach((row) => row.classList.add("fresh"));
  body.prepend(...rows);
  while (body.children.length > ROWS) body.lastElementChild.remove();
  find("#changes .empty").hidden = body.children.length > 0;
  find("#changes .empty").textContent = kept.length > 0 ? "No change matches." : "Nothing has changed yet.";
}

function refilter() {
  find("#changes tbody").replaceChildren(...kept.filter(matches).map(changeRow));
  showChanges();
}

let isShowing = false;
function soon(act) {
  if (isShowing) return;
  isShowing = true;
  setTimeout(() => {
    isShowing = false;
    act();
  }, 60);
}

function take(change) {
  state.seen = Math.max(state.seen, change.revision);
  if (change.type === "BOOKMARK") {
    soon(showChanges);
    return;
  }
  waiting.push(change);
  if (waiting.length > 2 * ROWS) waiting = waiting.slice(-ROWS);
  countsAreOld = true;
  if (change.key === state.key) refreshHistory();
  soon(showChanges);
}

// Reads the stream until it ends, fails or falls silent.
async function follow(since) {
  const stop = new AbortController();
  const hide = () => document.hidden && stop.abort();
  document.addEventListener("visibilitychange", hide);
  let alarm = setTimeout(() => stop.abort(), SILENCE);
  try {
    const response = await fetch(`holdfast/changes?since=${since}`, { signal: stop.signal, cache: "no-store" });
    if (!response.ok) throw new Error((await response.json()).message);
    setLive("live", "live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(() => stop.abort(), SILENCE);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.filter((line) => line !== "").forEach((line) => take(JSON.parse(line)));
      if (isFirst) setTimeout(() => { isFirst = false; }, 1000);
    }
  } finally {
    clearTimeout(alarm);
    stop.abort();
    document.removeEventListener("visibilitychange", hide);
  }
}

async function watchChanges() {
  for (let delay = 500; ;) {
    if (document.hidden) {
      // A page that nobody sees holds no connection: browsers have few of them for one server.
      setLive("asleep", "");
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      continue;
    }
    const began = Date.now();
    try {
      if (state.seen === 0) state.seen = Math.max(0, (await ask("holdfast/counts")).revision - LOOK_BACK);
      await follow(state.seen);
      // The server ends a stream now and then.
      if (Date.now() - began > 10_000) continue;
    } catch {
      // It is tried again, and the page says so meanwhile.
    }
    if (document.hidden) continue;
    delay = Date.now() - began > 10_000 ? 500 : Math.min(2 * delay, 8000);
    setLive("lost the server, trying again", "lost");
    await sleep(delay);
  }
}

// ---- One object ----

const hashOf = (key) => `#${encodeURI(key).replace(/#/g, "%23")}`;

function keyOfHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

let versions = [];
let hasMore = false;
let asking = 0;

async function chooseObject() {
  state.key = keyOfHash();
  document.querySelectorAll("#changes tbody tr").forEach((row) => row.classList.toggle("chosen", row.dataset.key === state.key));
  versions = [];
  hasMore = false;
  find("#object .versions").replaceChildren();
  find("#object .older").hidden = true;
  if (state.key === "") {
    find("#object-title").textContent = "Object";
    find("#object .about").textContent = "Choose an object, or a change, to see what became of it.";
    return;
  }
  const isLoaded = await loadHistory("");
  if (isLoaded && document.readyState === "complete") {
    find("#object-title").focus({ preventScroll: true });
    if (window.innerWidth <= 1080) find("#object").scrollIntoView({ block: "start" });
  }
}

// Newer ones, older ones, or the first ones: whatever came is merged, so that none is there twice.
async function loadHistory(more) {
  const turn = (asking += 1);
  const key = state.key;
  let told;
  try {
    told = await ask(`holdfast/history?key=${encodeURIComponent(key)}${more}`);
  } catch (error) {
    if (key === state.key) find("#object .about").textContent = error.message;
    return false;
  }
  if (key !== state.key || (turn !== asking && more === "")) return false;
  if (more !== "" || versions.length === 0) hasMore = told.hasMore;
  const known = new Set(versions.map((version) => version.revision));
  versions.push(...told.versions.filter((version) => !known.has(version.revision)));
  versions.sort((one, other) => other.revision - one.revision);
  showHistory(told);
  return true;
}

let isRefreshing = false;
function refreshHistory() {
  if (isRefreshing) return;
  isRefreshing = true;
  setTimeout(() => {
    isRefreshing = false;
    loadHistory("");
  }, 150);
}

function showHistory(told) {
  const title = `${told.kind ?? "Object"} ${nameOf(told)}`;
  find("#object-title").textContent = title;
  const about = versions.length === 0
    ? "There is no such object, and none is in the history that is kept."
    : `${versions.length}${hasMore ? " or more" : ""} revision${versions.length === 1 && !hasMore ? "" : "s"}, the newest first. History is kept from revision ${Math.max(told.compacted, 1)} on.`;
  find("#object .about").replaceChildren(about, document.createElement("br"), element("code", {}, told.key));
  const list = find("#object .versions");
  const shown = new Map([...list.children].map((item) => [item.dataset.place, item]));
  // The first one is open; an open or closed one stays so.
  arrange(list, versions.map((version, place) => {
    const older = versions[place + 1];
    const isCut = older === undefined && hasMore;
    const id = `${version.revision} ${older?.revision ?? isCut}`;
    return shown.get(id) ?? versionItem(version, older, place === 0, id, isCut);
  }));
  find("#object .older").hidden = !hasMore;
}

function versionItem(version, older, isOpen, id, isCut) {
  const lines = linesOf(version);
  const hasOlder = older !== undefined && older.type !== "DELETED" && version.type !== "ADDED";
  const before = hasOlder ? linesOf(older) : [];
  const steps = version.type === "DELETED" ? [] : compare(before, lines);
  const count = (kind) => steps.filter((step) => step.kind === kind).length;
  const summary = element("summary", {},
    element("span", { class: "number" }, String(version.revision)),
    element("span", { class: version.type in WORDS ? version.type : "" }, WORDS[version.type] ?? version.type),
    hasOlder && version.type !== "DELETED"
      ? element("span", { class: "size" }, element("span", { class: "plus" }, `+${count("added")}`), " ", element("span", { class: "minus" }, `\u2212${count("removed")}`))
      : null);
  const details = element("details", {}, summary);
  // What nobody looks at is not drawn.
  const draw = () => {
    if (!details.open || details.querySelector("pre, p")) return;
    if (version.type === "DELETED") {
      details.append(element("p", { class: "soft" }, "Deleted at this revision."));
      return;
    }
    const pre = element("pre", { tabIndex: 0 });
    const plain = () => pre.replaceChildren(...lines.map((line) => element("span", {}, line.text)));
    if (!hasOlder) {
      plain();
      if (version.type === "MODIFIED" && !isCut) details.append(element("p", { class: "soft" }, "What was there before is no longer kept."));
      details.append(pre);
      return;
    }
    const difference = () => pre.replaceChildren(...hunks(steps));
    const button = element("button", { type: "button", class: "whole", "aria-pressed": "false" }, "Whole");
    button.addEventListener("click", () => {
      const isWhole = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(isWhole));
      (isWhole ? plain : difference)();
    });
    difference();
    details.append(element("div", { class: "difference" }, button, pre));
  };
  details.addEventListener("toggle", draw);
  details.open = isOpen;
  draw();
  const item = element("li", {}, details);
  item.dataset.place = id;
  return item;
}

// ---- An object as lines ----

// Lines of YAML; each with the path of what it is in.
function linesOf(version) {
  const lines = [];
  if (version.object !== undefined) {
    const object = structuredClone(version.object);
    // The revision is said already, and who set which field is not what people look for.
    if (object?.metadata && typeof object.metadata === "object") {
      delete object.metadata.resourceVersion;
      delete object.metadata.managedFields;
    }
    lines.push(...yaml(object, ""));
  } else {
    const text = version.text ?? version.base64 ?? "";
    text.split("\n").forEach((line) => lines.push({ text: line, path: "" }));
  }
  return lines;
}

const isLeaf = (value) => value === null || typeof value !== "object" || Object.keys(value).length === 0;

function yaml(value, path) {
  if (isLeaf(value)) return leaf(value).map((text) => ({ text, path }));
  if (Array.isArray(value)) {
    return value.flatMap((item, place) => indent(yaml(item, `${path}[${typeof item?.name === "string" ? item.name : place}]`), "- ", "  "));
  }
  return Object.entries(value).flatMap(([name, item]) => {
    const inner = path === "" ? name : `${path}.${name}`;
    if (isLeaf(item)) {
      const [first, ...rest] = indent(yaml(item, inner), `${quoted(name)}: `, "  ");
      return [{ ...first, path }, ...rest];
    }
    const pad = Array.isArray(item) ? "" : "  ";
    return [{ text: `${quoted(name)}:`, path }, ...indent(yaml(item, inner), pad, pad)];
  });
}

const indent = (lines, first, rest) => lines.map((line, place) => ({ text: (place === 0 ? first : rest) + line.text, path: line.path }));

function leaf(value) {
  if (typeof value !== "string") return [JSON.stringify(value)];
  const isBlock = value.includes("\n") && !/^\s|[\u0000-\u0009\u000b-\u001f\u007f]/.test(value);
  if (!isBlock) return [quoted(value)];
  const lines = value.split("\n");
  const ends = lines.at(-1) === "";
  if (ends) lines.pop();
  return [ends ? "|" : "|-", ...lines];
}

// Quoted where YAML would take it for something else.
function quoted(text) {
  const isPlain = /^[A-Za-z_./$][^\u0000-\u001f\u007f]*$/.test(text) && !/: |:$| #|\s$/.test(text)
    && !/^(true|false|null|yes|no|on|off|y|n|~|\.nan|[-+]?\.inf)$/i.test(text);
  return isPlain ? text : JSON.stringify(text);
}

// What leads from one list of lines to another: lines kept, removed and added.
function compare(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start].text === after[start].text) start += 1;
  let end = 0;
  while (end < before.length - start && end < after.length - start
    && before.at(-1 - end).text === after.at(-1 - end).text) end += 1;
  const [old, fresh] = [before.slice(start, before.length - end), after.slice(start, after.length - end)];
  const steps = after.slice(0, start).map((line) => ({ kind: "kept", line }));
  if (old.length * fresh.length > DIFF_CELLS) {
    steps.push(...old.map((line) => ({ kind: "removed", line })), ...fresh.map((line) => ({ kind: "added", line })));
  } else {
    // The longest common subsequence of the lines from each pair of places on.
    const width = fresh.length + 1;
    const common = new Uint16Array((old.length + 1) * width);
    for (let row = old.length - 1; row >= 0; row -= 1) {
      for (let column = fresh.length - 1; column >= 0; column -= 1) {
        const here = row * width + column;
        common[here] = old[row].text === fresh[column].text
          ? common[here + width + 1] + 1
          : Math.max(common[here + width], common[here + 1]);
      }
    }
    let [row, column] = [0, 0];
    while (row < old.length || column < fresh.length) {
      if (row < old.length && column < fresh.length && old[row].text === fresh[column].text) {
        steps.push({ kind: "kept", line: fresh[column] });
        row += 1;
        column += 1;
      } else if (column === fresh.length || (row < old.length && common[(row + 1) * width + column] >= common[row * width + column + 1])) {
        steps.push({ kind: "removed", line: old[row] });
        row += 1;
      } else {
        steps.push({ kind: "added", line: fresh[column] });
        column += 1;
      }
    }
  }
  steps.push(...after.slice(after.length - end).map((line) => ({ kind: "kept", line })));
  return steps;
}

// The changed lines with some around them, each group below the path of what changes first in it.
function hunks(steps) {
  const isNear = new Uint8Array(steps.length);
  steps.forEach((step, place) => {
    if (step.kind !== "kept") isNear.fill(1, Math.max(0, place - CONTEXT), place + CONTEXT + 1);
  });
  const marks = { kept: " ", removed: "\u2212", added: "+" };
  const drawn = [];
  steps.forEach((step, place) => {
    if (!isNear[place]) return;
    if (place === 0 || !isNear[place - 1]) {
      const first = steps.slice(place).find((one) => one.kind !== "kept");
      drawn.push(element("span", { class: "path" }, first.line.path || "object"));
    }
    drawn.push(element("span", { class: step.kind }, `${marks[step.kind]} ${step.line.text}`));
  });
  if (drawn.length === 0) drawn.push(element("span", { class: "path" }, "Nothing but managedFields has changed."));
  return drawn;
}

// ---- Begin ----

find("#filter").addEventListener("input", refilter);
find("#pause").addEventListener("click", () => {
  state.isPaused = !state.isPaused;
  find("#pause").setAttribute("aria-pressed", String(state.isPaused));
  find("#pause").textContent = state.isPaused ? "Go on" : "Pause";
  showChanges();
});
find("#changes tbody").addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && !event.target.closest("a")) location.hash = hashOf(row.dataset.key);
});
find("#object .older").addEventListener("click", () => loadHistory(`&before=${versions.at(-1).revision}`));
window.addEventListener("hashchange", chooseObject);

chooseObject();
watchMembers();
watchCounts();
watchChanges();
