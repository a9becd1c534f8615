// The live page: shows what /events says, and sends the wishes of a person back.

import * as map from "./map.js";
import * as review from "./review.js";

// Okabe and Ito's colours and a violet, distinct for colour-blind eyes; a class takes the one at its place.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7250dc", "#f0e442"];
const RECONNECT_MS = 1000;
const SILENCE_MS = 12000; // the server sends a heartbeat each 5 s
const REFUSAL_MS = 6000;
const WISH_MS = 15000; // the server answers within 10 s
const STALE_MS = 10000;
const SCAN_MS = 150; // a barcode scanner types faster than this, a hand slower

const $ = (id) => document.getElementById(id);
const human = (name) => name.replaceAll("_", " ");
const percent = (share) => (share === null ? "–" : share.toFixed(1));
const whole = (number) => number.toLocaleString("en");
// A screen reader repeats what is written again, even where it did not change.
const setText = (target, text) => target.textContent === text || (target.textContent = text);

let shown = null; // the newest event
let picture = null; // the decoded image that belongs to `drawn`
let drawn = null; // the event whose picture and boxes are on the canvas
let explaining = false; // whether heat maps lie over the cells
let refused = ""; // why the last wish failed
let forgetting = 0; // the timer that ends it
let asked = ""; // the specimen that this page asked for
let replaced = ""; // that another one took the place of the specimen shown, until somebody here acts
let connected = null; // null while the first attempt runs, and while nobody sees the page
let signed = null; // the figures that the release dialog shows
let stopped = false; // whether the instrument said that it ends
let [newestMs, spoken] = [0, ""];

function colour(name) {
  const place = shown.state.classes.findIndex((entry) => entry.name === name);
  return COLOURS[place % COLOURS.length] ?? "#8c8c8c";
}

const GROUPS = { counted: "counted", "reported per 100": "per-100", rejected: "rejected" };
const rows = new Map(); // class name -> its row
let listed = "";

function makeRows(classes) {
  const list = JSON.stringify(classes.map((entry) => [entry.name, entry.role]));
  if (list === listed) return;
  listed = list;
  for (const id of Object.values(GROUPS)) $(id).replaceChildren();
  for (const entry of classes) {
    const row = $("row").content.firstElementChild.cloneNode(true);
    row.dataset.class = entry.name;
    row.style.setProperty("--class", colour(entry.name));
    row.querySelector(".name").textContent = row.title = human(entry.name);
    rows.set(entry.name, row);
    $(GROUPS[entry.role]).append(row);
  }
  $("others").hidden = !$("per-100").hasChildNodes();
  $("rejects").hidden = !$("rejected").hasChildNodes();
}

function showClass({ name, count, percent: share, low, high, per_100: per100 }) {
  const part = (className) => rows.get(name).querySelector(className);
  rows.get(name).classList.toggle("known", share !== null);
  part(".cells").textContent = whole(count);
  part(".percent").textContent = percent(share ?? per100);
  part(".fill").style.width = `${share ?? 0}%`;
  part(".whisker").style.left = `${low ?? 0}%`;
  part(".whisker").style.width = `${(high ?? 0) - (low ?? 0)}%`;
  part(".limits").textContent = share === null ? "" : `${percent(low)}–${percent(high)}`;
}

function showState(state) {
  document.body.dataset.phase = state.phase;
  $("specimen").textContent = state.specimen;
  $("phase").textContent = state.phase;
  $("total").textContent = whole(state.total);
  const within = state.target !== null && state.total <= state.target;
  $("target").textContent = within ? `of ${whole(state.target)}` : "cells";
  const done = state.target ? Math.min(100, (100 * state.total) / state.target) : 0;
  $("arc").style.strokeDasharray = `${done} 100`;
  $("arc").style.strokeLinecap = done ? "round" : "butt"; // a dash of no length would still show round ends
  $("review").textContent = whole(state.review);
  $("review-line").classList.toggle("some", state.review > 0);
  $("namings").textContent = whole(state.namings);
  $("namings-line").hidden = state.namings === 0;
  $("fields").textContent = whole(state.fields);
  $("frames").textContent = whole(state.frames);
  $("fps").textContent = `${state.fps.toFixed(1)}/s`;
  const skips = Object.entries(state.skips);
  const told = skips.map(([reason, number]) => (number > 1 ? `${whole(number)} times ${reason}` : reason));
  if (skips.reduce((sum, [, number]) => sum + number, 0) < state.skipped) told.push("and others");
  setText($("skipped"), `${whole(state.skipped)} (${told.join("; ")})`);
  $("skipped-line").hidden = state.skipped === 0;
  $("without").textContent = `${whole(state.empty)} image${state.empty === 1 ? "" : "s"}`;
  $("without-line").hidden = state.empty === 0;
  $("source").textContent = state.source;
  $("rim-line").hidden = !state.rim;
  $("position").textContent = state.stage ? `x ${Math.round(state.stage[0])} y ${Math.round(state.stage[1])}` : "";
  $("model").textContent = state.model.name;
  $("hash").textContent = state.model.sha256.slice(0, 8);
  showGates(state);
  makeRows(state.classes);
  state.classes.forEach(showClass);
  $("pause-word").textContent = state.phase === "paused" ? "Continue" : "Pause";
  map.follow(state, { colour, human, inkOn });
  review.follow(state, { colour, human, wish, tell, reveal: map.reveal });
  showLis(state);
  speak(state);
}

function showGates(state) {
  for (const kind of ["gated", "warned"]) {
    const gates = Object.entries(state[kind]);
    setText($(kind), gates.map(([gate, count]) => `${gate} ${whole(count)}`).join(", "));
    $(`${kind}-line`).hidden = gates.length === 0;
  }
}

function speak({ specimen, phase, total }) {
  // Every 25th cell and every change of phase or specimen: more would talk without end.
  const milestone = [specimen, phase, Math.floor(total / 25)].join();
  if (milestone === spoken) return;
  spoken = milestone;
  $("spoken").textContent = `${phase}: ${total} ${$("target").textContent}`;
}

const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);
const clock = (time) => new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

function sentence({ version, status, state, reason, changed }, problem) {
  const report = `${status} result${version > 1 ? `, version ${version},` : ""}`;
  if (state === "received") return `${report} ${reason} at ${clock(changed)}`;
  if (state === "waiting") return `${report} has not arrived: ${problem || reason || "on its way"}`;
  return `${report}: ${state === "refused" ? "refused, " : ""}${reason}`;
}

function showLis({ lis, total, namings, classes }) {
  $("lis").hidden = !lis;
  if (!lis) return;
  const { released, problem, due, waiting, since: oldest, refused: turnedDown } = lis;
  const changed = [];
  // Early results told no counts. Cells of all roles are counted on; `total` is of counted classes alone.
  const then = released?.counts ?? null;
  const grown = then ? sum(classes.map(({ count }) => count)) !== sum(Object.values(then)) : released && released.total !== total;
  if (grown) changed.push(`${whole(released.total)} cells then, counted on since`);
  if (released && (released.namings ?? 0) !== namings) changed.push("cells were named since");
  else if (then && !grown && classes.some(({ name, count }) => count !== (then[name] ?? 0))) changed.push("seen again, cells got other classes since");
  $("lis").dataset.state = released?.state ?? "none";
  setText($("way"), lis.way);
  setText($("sent"), released ? [sentence(released, problem), ...changed].join("; ") : problem ? `not released; ${problem}` : "not released");
  const parts = [];
  if (waiting > 1 || (waiting === 1 && released?.state !== "waiting")) parts.push(`${waiting} waiting since ${clock(oldest)}`);
  if (turnedDown) parts.push(`${turnedDown} refused: see the outbox`);
  if (due && waiting) parts.push(`next attempt at ${new Date(due).toLocaleTimeString("en-GB")}`);
  setText($("waits"), parts.join("; "));
  const list = lis.orders.join();
  if ($("orders").dataset.list === list) return;
  $("orders").dataset.list = list;
  $("orders").replaceChildren(...lis.orders.map((specimen) => new Option(specimen)));
}

function showNotices() {
  const phase = shown?.state.phase;
  const over = phase === "finished" || phase === "failed";
  const silentMs = performance.now() - newestMs;
  const stale = connected && phase === "counting" && silentMs > STALE_MS;
  const { message, unsettled } = shown?.state ?? {};
  const told = over && unsettled.length ? `${message}; not final: ${unsettled.join(", ")}` : message;
  const now = stale ? `no new picture for ${Math.round(silentMs / 1000)} s` : told;
  const notice = refused || [now, replaced].filter(Boolean).join(" · ");
  setText($("message"), notice || "");
  $("notice").hidden = !notice;
  $("dismiss").hidden = refused !== "" || replaced === "";
  const goesOn = over ? "" : "; whether the count goes on is not known";
  const lost = stopped ? "the counter was stopped" : `connection lost, reconnecting${goesOn}`;
  const gone = `${lost}; these are the last numbers seen`;
  setText($("lost"), connected === false ? gone : "");
  $("lost").hidden = connected !== false;
  setText($("empty"), over ? "The count has ended" : "Waiting for the first picture");
  document.body.classList.toggle("stale", connected === false || (connected === null && shown !== null));
  $("pause").disabled = !connected || !phase || over;
  $("new").disabled = !connected || !phase;
  $("release").disabled = !connected || !(over || phase === "paused") || !shown.state.total;
  $("release").title = phase === "counting" ? "Pause the count, then release" : "";
}

async function showPicture(event) {
  let image = null;
  if (event.jpeg) {
    image = new Image();
    image.src = `data:image/jpeg;base64,${event.jpeg}`;
    await image.decode();
  }
  [picture, drawn] = [image, event];
  if (event.labels.some((label) => label.heat)) $("why").hidden = false;
  draw();
}

function draw() {
  const canvas = $("picture");
  $("empty").hidden = picture !== null;
  const density = window.devicePixelRatio || 1;
  const { clientWidth, clientHeight } = canvas;
  [canvas.width, canvas.height] = [clientWidth * density, clientHeight * density];
  canvas.ariaLabel = "No picture yet";
  if (!picture) return;
  const [width, height] = drawn.size;
  document.documentElement.style.setProperty("--shape", `${width} / ${height}`);
  const scale = Math.min(clientWidth / width, clientHeight / height);
  const [left, top] = [(clientWidth - width * scale) / 2, (clientHeight - height * scale) / 2];
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, left, top, width * scale, height * scale);
  if (explaining) for (const label of drawn.labels) drawHeat(pen, label, [left, top], scale);
  const boxed = drawn.labels.map((label) => {
    const [x, y, w, h] = label.box.map((length) => length * scale);
    return { label, box: { x: left + x, y: top + y, w, h } };
  });
  // Counted cells last, so that their boxes lie above; but first to find room for their captions.
  boxed.sort((a, b) => (a.label.number !== null) - (b.label.number !== null));
  for (const { label, box } of boxed) drawBox(pen, label, box);
  const placed = [];
  for (const { label, box } of boxed.reverse()) drawCaption(pen, label, box, placed, [clientWidth, clientHeight]);
  canvas.ariaLabel = `On the picture: ${drawn.labels.map(caption).join(", ") || "no cell"}`;
}

// Viridis at five places, dark to light: it also reads in grey and with any colour vision.
const HEAT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function heatPixel(percent) {
  const place = Math.min((percent / 100) * (HEAT.length - 1), HEAT.length - 1.001);
  const [low, high] = [HEAT[Math.floor(place)], HEAT[Math.floor(place) + 1]];
  return [...low.map((value, i) => value + (high[i] - value) * (place % 1)), 128];
}

function drawHeat(pen, { box: [x, y, w, h], heat }, [left, top], scale) {
  if (!heat) return;
  const small = new OffscreenCanvas(heat.length, heat.length);
  const pixels = new Uint8ClampedArray(heat.flat().flatMap(heatPixel));
  small.getContext("2d").putImageData(new ImageData(pixels, heat.length), 0, 0);
  const side = drawn.context * Math.max(w, h) * scale;
  pen.drawImage(small, left + (x + w / 2) * scale - side / 2, top + (y + h / 2) * scale - side / 2, side, side);
}

function caption(label) {
  const number = label.number === null ? "" : `${label.number} · `;
  const sure = label.confidence === null ? "" : ` ${Math.round(label.confidence * 100)} %`;
  return `${number}${human(label.name)}${sure}`;
}

function drawBox(pen, label, box) {
  const counted = label.number !== null;
  pen.setLineDash(counted ? [] : [7, 5]);
  pen.beginPath();
  pen.roundRect(box.x, box.y, box.w, box.h, 7);
  pen.strokeStyle = "#000a";
  pen.lineWidth = counted ? 6 : 3;
  pen.stroke();
  pen.strokeStyle = colour(label.name);
  pen.lineWidth = counted ? 3.5 : 2;
  pen.stroke();
}

function drawCaption(pen, label, box, placed, [roomX, roomY]) {
  const counted = label.number !== null;
  const h = roomX < 500 ? 21 : 27;
  pen.font = `${counted ? 650 : 500} ${roomX < 500 ? 13 : 17}px system-ui, sans-serif`;
  const heights = [box.y - h - 4, box.y + box.h + 4, box.y + 5, box.y + box.h - h - 5];
  const fit = (text) => {
    const w = pen.measureText(text).width + 18;
    const x = Math.max(2, Math.min(box.x - 2, roomX - w - 2));
    const free = (y) =>
      y >= 2 && y + h <= roomY - 2 && placed.every((p) => x + w < p.x || p.x + p.w < x || y + h < p.y || p.y + p.h < y);
    return { text, x, w, h, y: heights.find(free) };
  };
  // Where captions crowd, a counted cell shows its number alone and another one nothing.
  const texts = counted ? [caption(label), String(label.number)] : [caption(label)];
  const found = texts.map(fit).find(({ y }) => y !== undefined);
  if (!found) return;
  placed.push(found);
  pen.fillStyle = counted ? colour(label.name) : "#1a171fcc";
  pen.beginPath();
  pen.roundRect(found.x, found.y, found.w, h, 6);
  pen.fill();
  pen.fillStyle = counted ? inkOn(colour(label.name)) : "#fff";
  pen.textBaseline = "middle";
  pen.fillText(found.text, found.x + 9, found.y + h / 2 + 1);
}

function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

// Not an EventSource: that hides heartbeats, so a network that went silent would look alive.
async function* messages(signal, heard) {
  const answer = await fetch("/events", { signal, cache: "no-store" });
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    heard();
    const complete = (rest + part.value).split("\n\n");
    rest = complete.pop();
    stopped = complete.includes(": stopped");
    const newest = complete.findLast((message) => message.startsWith("data: "));
    if (newest) yield JSON.parse(newest.slice(6));
  }
}

async function follow() {
  if (document.hidden) await seen();
  const silence = new AbortController();
  // A browser has six connections for all its pages: one that nobody sees must not hold up another's wishes.
  const left = () => document.hidden && silence.abort("unseen");
  document.addEventListener("visibilitychange", left, { signal: silence.signal });
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
    setConnected(true);
  };
  const stream = messages(silence.signal, heard);
  try {
    for (let next; (next = await stream.next().catch(() => null)) && !next.done; ) await show(next.value);
  } finally {
    // Also where showing failed: a page that froze must not look alive.
    silence.abort();
    clearTimeout(timer);
    const unseen = silence.signal.reason === "unseen";
    setConnected(unseen ? null : false);
    setTimeout(follow, unseen ? 0 : RECONNECT_MS);
  }
}

/** Wait until the page is seen again. */
async function seen() {
  while (document.hidden) await new Promise((turned) => document.addEventListener("visibilitychange", turned, { once: true }));
  newestMs = performance.now();
}

function setConnected(now) {
  connected = now;
  showNotices();
}

async function show(event) {
  const [before, now] = [shown?.state.specimen ?? event.state.specimen, event.state.specimen];
  // After a power cut, say, or as another page asked.
  if (now !== before && now !== asked) replaced = `another specimen is counted now, ${now}; New specimen with ${before} goes on with that`;
  if (now === asked) asked = "";
  shown = event;
  newestMs = performance.now();
  showState(event.state);
  showNotices();
  await showPicture(event);
}

async function wish(path, body) {
  // Returns "" when the server took it, else the reason in words.
  replaced = "";
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...request, signal: AbortSignal.timeout(WISH_MS) }).catch(() => null);
  if (!answer) return "the instrument does not answer: it is not known whether this was done; look, then try again";
  return answer.ok ? "" : answer.text();
}

/** Show why a wish was refused, for a while. */
function tell(reason) {
  refused = reason;
  showNotices();
  clearTimeout(forgetting);
  forgetting = setTimeout(() => (refused = ""), REFUSAL_MS);
}

async function togglePause() {
  if ($("pause").disabled) return;
  tell(await wish("/pause", { paused: shown.state.phase !== "paused" }));
}

function toggleWhy() {
  if ($("why").hidden) return;
  explaining = !explaining;
  $("why").ariaPressed = String(explaining);
  draw();
}

function askSpecimen() {
  if ($("new").disabled || anyDialog()) return;
  $("form").reset();
  const { specimen, source } = shown.state;
  $("current").textContent = specimen;
  const live = ["camera", "url"].includes(source);
  const same = ["images", "video"].includes(source) ? ` The same ${source} will be counted under it.` : "";
  $("reread").textContent = live ? " The new one begins paused: put its slide in place, then continue." : same;
  $("refusal").textContent = "";
  $("dialog").showModal();
}

async function sendSpecimen(submit) {
  submit.preventDefault();
  asked = $("id").value.trim();
  const reason = await wish("/specimen", { specimen: asked });
  $("refusal").textContent = reason;
  if (reason) $("id").focus();
  else $("dialog").close();
}

function askRelease() {
  if ($("lis").hidden || $("release").disabled || anyDialog()) return;
  $("release-form").reset();
  // A correction without them withdraws the absolute counts that were sent before.
  $("wbc").value = shown.state.lis.wbc ?? "";
  $("release-refusal").textContent = "";
  showSigned();
  $("release-dialog").showModal();
}

/** Show what a release would send; this is what the person then signs. */
function showSigned() {
  const { specimen, total, unsettled, review: awaiting, classes, lis } = shown.state;
  const counts = Object.fromEntries(classes.map(({ name, count }) => [name, count]));
  signed = { specimen, counts, review: awaiting, status: lis.release_as };
  $("release-specimen").textContent = specimen;
  const open = unsettled.map((reason) => `; ${reason}`).join("");
  const instead = lis.release_as === "corrected" ? ", in place of the final result" : "";
  $("release-what").textContent = `${whole(total)} cells counted${open}: it goes out as ${lis.release_as}${instead}.`;
}

async function sendRelease(submit) {
  submit.preventDefault();
  const text = $("wbc").value.trim().replace(",", ".");
  // Number() alone would also take 0x10 for 16, and 1e999, which JSON has not, for none.
  if (text && !/^(\d+\.?\d*|\.\d+)$/.test(text)) {
    $("release-refusal").textContent = "the leukocyte count must be a number, as 7.2";
    return;
  }
  const wbc = text ? Number(text) : null;
  const reason = await wish("/release", { ...signed, operator: $("operator").value, wbc });
  $("release-refusal").textContent = reason;
  if (!reason) $("release-dialog").close();
  else if (shown.state.specimen === signed.specimen) showSigned();
}

async function showOutbox() {
  const answer = await fetch("/outbox", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return [];
  const list = await answer.json();
  $("messages").replaceChildren(...list.map(messageRow));
  $("outbox-refusal").textContent = "";
  $("outbox-again").hidden = true;
  if (!$("outbox-dialog").open) $("outbox-dialog").showModal();
  return list;
}

function messageRow(message) {
  const row = $("sent-message").content.firstElementChild.cloneNode(true);
  const { id, specimen, version, status, state, changed, reason } = message;
  row.dataset.state = state;
  row.querySelector(".what").textContent = `${id} · ${specimen} · ${status}${version > 1 ? ` · version ${version}` : ""}`;
  row.querySelector(".state").textContent = `${state} ${new Date(changed).toLocaleString("en-GB")}`;
  row.querySelector(".why").textContent = state === "received" ? "" : reason;
  row.querySelector(".resend").addEventListener("click", () => sendAgain(id));
  row.querySelector(".withdraw").addEventListener("click", () => changeOutbox(id, "cancel"));
  row.querySelector(".withdraw").hidden = state === "received" || state === "cancelled";
  return row;
}

/** Send a message again; one that the LIS has already only after another question, asked at another place. */
async function sendAgain(id) {
  const now = (await showOutbox()).find((message) => message.id === id); // it may have arrived meanwhile
  if (now && now.state !== "received") return changeOutbox(id, "resend");
  $("outbox-refusal").textContent = now ? `The LIS has message ${id} already.` : "The outbox cannot be read; try again.";
  $("outbox-close").focus(); // the button that was pressed is a new one
  if (!now) return;
  $("outbox-again").textContent = `Send ${id} again`;
  $("outbox-again").onclick = () => changeOutbox(id, "resend");
  $("outbox-again").hidden = false;
}

async function changeOutbox(id, action) {
  const refusal = await wish("/outbox", { id, action, reason: $("reason").value });
  await showOutbox(); // first: the buttons below the words are new ones
  $("outbox-refusal").textContent = refusal;
}

const anyDialog = () => document.querySelector("dialog[open]") !== null;
const SHORTCUTS = { " ": togglePause, n: askSpecimen, w: toggleWhy, m: map.toggle, r: askRelease, c: review.show };
let [lastKeyMs, pending, scanned] = [-SCAN_MS, 0, false];

// A key counts only alone. A barcode scanner types a whole ID at once: its N must not open the dialog
// halfway, which would take the rest for the ID, and its Enter must not press a button.
function onKey(press) {
  const burst = press.timeStamp - lastKeyMs < SCAN_MS;
  lastKeyMs = press.timeStamp;
  // An Enter that is held has moved the focus: what is there now must not be confirmed unseen.
  if (press.repeat && press.key === "Enter") return press.preventDefault();
  if (press.target instanceof HTMLInputElement) {
    if (burst && press.key === "Enter") onScan(press);
    return;
  }
  clearTimeout(pending);
  scanned = burst && (press.key === " " || press.key === "Enter");
  // Nor must its letters choose from a list of classes.
  const letter = press.target instanceof HTMLSelectElement && press.key.length === 1 && press.key !== " ";
  if (scanned || letter) press.preventDefault();
  if (anyDialog() || burst || press.repeat || press.ctrlKey || press.metaKey || press.altKey) return;
  const onButton = press.key === " " && press.target instanceof HTMLButtonElement;
  const action = onButton ? () => press.target.click() : SHORTCUTS[press.key.toLowerCase()];
  if (!action) return;
  press.preventDefault();
  pending = setTimeout(action, SCAN_MS);
}

// An ID scanned into the release must not sign it and send it: the scanner's Enter leads to the next field alone.
function onScan(press) {
  const fields = [...$("release-form").querySelectorAll("input")];
  const place = fields.indexOf(press.target);
  if (place < 0) return;
  press.preventDefault();
  fields[place + 1]?.focus();
}

$("dismiss").addEventListener("click", () => {
  replaced = "";
  showNotices();
});
$("pause").addEventListener("click", togglePause);
$("new").addEventListener("click", askSpecimen);
$("why").addEventListener("click", toggleWhy);
$("cancel").addEventListener("click", () => $("dialog").close());
$("form").addEventListener("submit", sendSpecimen);
$("release").addEventListener("click", askRelease);
$("release-cancel").addEventListener("click", () => $("release-dialog").close());
$("release-form").addEventListener("submit", sendRelease);
$("outbox").addEventListener("click", showOutbox);
$("outbox-close").addEventListener("click", () => $("outbox-dialog").close());
document.addEventListener("keydown", onKey, true); // before any element takes it
// Some browsers press a focused button when the space bar comes up again.
document.addEventListener("keyup", (up) => up.key === " " && (scanned || !anyDialog()) && up.preventDefault());
new ResizeObserver(draw).observe($("stage"));
setInterval(showNotices, 1000);
follow();
