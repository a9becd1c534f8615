// The map panel: what has been seen of the smear, the cells on it, and where the stage is now.

const FETCH_MS = 1000; // at most so often
const NEAR_PX = 22; // a finger's reach

const $ = (id) => document.getElementById(id);

let map = null; // the newest answer of /map
let picture = null; // its image, decoded
let look = null; // names and colours, given by the page
let specimen = "";
let [stage, frame] = [null, null]; // where the newest frame lies, and its size
let [version, wanted, fetchedMs, pending] = [null, null, -FETCH_MS, 0];
let selected = null; // number of a cell
let sought = null; // number of a cell that is shown once it is on the map

/** Take the newest state; `helpers` has colour(name), human(name) and inkOn(colour). */
export function follow(state, helpers) {
  look = helpers;
  $("map-button").hidden = !state.map;
  if (state.specimen !== specimen) forget(state.specimen);
  if (!state.map) {
    show(false);
    return;
  }
  wanted = state.map.version;
  const { fields, mm2, seen_share: seen, monolayer_share: monolayer } = state.map;
  const area = mm2 === null ? "" : `, ${mm2.toFixed(2)} mm²`;
  const shares = `${Math.round(100 * seen)} % of the rectangle round them seen, ${Math.round(100 * monolayer)} % of that monolayer`;
  write($("map-facts"), `${fields} fields${area}; ${shares}`);
  const moved = state.stage && String(state.stage) !== String(stage);
  if (state.stage) [stage, frame] = [state.stage, state.frame];
  if (open()) fetchSoon();
  if (open() && moved) draw();
}

export const toggle = () => $("map-button").hidden || show(!open());

const open = () => !$("map-panel").hidden;
const write = (target, text) => target.textContent === text || (target.textContent = text);

function show(on) {
  if (on === open()) return;
  $("map-panel").hidden = !on;
  $("sights").classList.toggle("with-map", on);
  $("map-button").ariaPressed = String(on);
  if (on) fetchSoon();
}

/** Open the map where a cell lies; a new one is not on it yet, and is shown when it is. */
export function reveal(number) {
  sought = number;
  show(true);
  seek();
}

function seek() {
  if (sought === null) return;
  if (!map?.cells.some((one) => one.number === sought)) {
    write($("found"), `cell ${sought} is not on the map yet`);
    return;
  }
  select(sought);
}

function forget(next) {
  [specimen, map, picture, version, stage, frame, selected, sought] = [next, null, null, null, null, null, null, null];
  $("cells").replaceChildren();
  write($("found"), "");
  draw();
}

function fetchSoon() {
  if (pending || version === wanted) return;
  const wait = Math.max(0, FETCH_MS - (performance.now() - fetchedMs));
  pending = setTimeout(async () => {
    const [asked, whose] = [wanted, specimen];
    if (await load(whose).catch(() => false)) version = asked;
    [pending, fetchedMs] = [0, performance.now()];
  }, wait);
}

async function load(whose) {
  const answer = await fetch("/map", { cache: "no-store" });
  if (!answer.ok) return false;
  const next = await answer.json();
  const image = new Image();
  image.src = `data:image/jpeg;base64,${next.jpeg}`;
  await image.decode();
  if (whose !== specimen) return false;
  [map, picture] = [next, image];
  $("sheet").style.setProperty("--shape", image.width / image.height);
  listCells();
  const chosen = map.cells.find((cell) => cell.number === selected);
  if ($("found").textContent.startsWith(`cell ${selected}: `)) describe(chosen);
  draw();
  seek();
  return true;
}

function listCells() {
  const list = $("cells");
  for (const { number } of map.cells.slice(list.children.length)) {
    const row = $("cell").content.firstElementChild.cloneNode(true);
    const button = row.querySelector("button");
    button.dataset.number = number;
    button.querySelector(".number").textContent = number;
    button.addEventListener("click", () => select(number));
    list.prepend(row);
  }
  const rows = [...list.children].reverse();
  map.cells.forEach((cell, i) => {
    rows[i].classList.toggle("sure", !cell.review);
    rows[i].firstElementChild.style.setProperty("--class", look.colour(cell.name));
    const state = cell.review ? " · review" : cell.named ? " · named" : "";
    write(rows[i].querySelector(".what"), look.human(cell.name) + state);
  });
}

/** Whether the list and the map show a cell, or only those to review. */
const shows = (cell) => cell.review || $("review-only").ariaPressed !== "true";

/** Say in words where a cell lies and what it is. */
function describe(cell) {
  const number = cell.number;
  const [x, y] = cell.slide.map(Math.round);
  const review = cell.review ? `, to review (${cell.why.join("; ")})` : "";
  const sure = cell.named ? ", named by a person" : ` ${Math.round(100 * cell.confidence)} %`;
  write($("found"), `cell ${number}: ${look.human(cell.name)}${sure}${review}; x ${x} y ${y}`);
}

/** Show a cell on the map, and say what it is. */
function select(number) {
  sought = null;
  const cell = map?.cells.find((one) => one.number === number);
  if (!cell) {
    write($("found"), `no cell ${number} on the map`);
    return;
  }
  selected = number;
  describe(cell);
  for (const button of $("cells").querySelectorAll("button")) {
    button.ariaPressed = String(Number(button.dataset.number) === number);
    // Inside the list alone: the page itself must not jump.
    if (button.ariaPressed === "true") $("cells").scrollTop = button.offsetTop - $("cells").clientHeight / 2;
  }
  draw();
}

/** How the map lies on the canvas: slide pixels to canvas pixels. */
function fit() {
  const { clientWidth, clientHeight } = $("map");
  const [width, height] = map.size;
  const zoom = Math.min(clientWidth / width, clientHeight / height);
  const [left, top] = [(clientWidth - width * zoom) / 2, (clientHeight - height * zoom) / 2];
  const perSlide = zoom / map.scale;
  const place = ([x, y]) => [left + (x - map.origin[0]) * perSlide, top + (y - map.origin[1]) * perSlide];
  return { left, top, zoom, perSlide, place };
}

function draw() {
  const canvas = $("map");
  const density = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [canvas.clientWidth * density, canvas.clientHeight * density];
  canvas.ariaLabel = "No map yet";
  if (!map) return;
  const { left, top, zoom, perSlide, place } = fit();
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.drawImage(picture, left, top, map.size[0] * zoom, map.size[1] * zoom);
  for (const cell of map.cells.filter(shows)) if (cell.number !== selected) drawCell(pen, cell, place(cell.slide), perSlide);
  if (stage) drawFrame(pen, place, perSlide);
  const chosen = map.cells.find((cell) => cell.number === selected);
  if (chosen) drawChosen(pen, chosen, place(chosen.slide), perSlide);
  canvas.ariaLabel = `Map: ${$("map-facts").textContent}; ${map.cells.length} cells. ${$("found").textContent}`;
}

function ring(pen, [x, y], radius, shade, width) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.strokeStyle = shade;
  pen.lineWidth = width;
  pen.stroke();
}

function drawCell(pen, cell, at, perSlide) {
  const radius = Math.max(4, (cell.side * perSlide) / 2);
  ring(pen, at, radius, "#000a", 4);
  ring(pen, at, radius, look.colour(cell.name), 2.5);
}

function drawChosen(pen, cell, [x, y], perSlide) {
  const radius = Math.max(9, 0.8 * cell.side * perSlide);
  ring(pen, [x, y], radius, "#000", 7);
  ring(pen, [x, y], radius, "#fff", 4);
  ring(pen, [x, y], radius - 4, look.colour(cell.name), 3);
  pen.font = "650 15px system-ui, sans-serif";
  const width = pen.measureText(cell.number).width + 12;
  const from = Math.min(x + radius + 4, $("map").clientWidth - width - 2);
  pen.fillStyle = look.colour(cell.name);
  pen.fillRect(from, y - 11, width, 22);
  pen.fillStyle = look.inkOn(look.colour(cell.name));
  pen.textBaseline = "middle";
  pen.fillText(cell.number, from + 6, y + 1);
}

function drawFrame(pen, place, perSlide) {
  const [x, y, angle] = stage;
  pen.save();
  pen.translate(...place([x, y]));
  pen.rotate(angle);
  for (const [shade, width] of [["#000", 5], ["#fff", 2.5]]) {
    pen.strokeStyle = shade;
    pen.lineWidth = width;
    pen.strokeRect(0, 0, frame[0] * perSlide, frame[1] * perSlide);
  }
  pen.restore();
}

function pick(press) {
  if (!map) return;
  const { place } = fit();
  const away = ({ slide }) => {
    const [x, y] = place(slide);
    return Math.hypot(x - press.offsetX, y - press.offsetY);
  };
  const nearest = map.cells.filter(shows).toSorted((a, b) => away(a) - away(b))[0];
  if (nearest && away(nearest) <= NEAR_PX) select(nearest.number);
}

$("map").addEventListener("click", pick);
$("map-button").addEventListener("click", toggle);
$("review-only").addEventListener("click", () => {
  $("review-only").ariaPressed = String($("review-only").ariaPressed !== "true");
  $("cells").classList.toggle("only-review");
  draw();
});
$("find").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const asked = $("find-number").value.trim();
  if (/^\d+$/.test(asked)) select(Number(asked));
  else write($("found"), "give the number of a cell");
});
new ResizeObserver(draw).observe($("sheet"));
