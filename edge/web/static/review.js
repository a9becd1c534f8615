// The counted cells, in the order of their counting: those that a person must look at, or all. Of each the sharpest
// picture, its class, why it is doubtful, and a choice of the class that the person sees. What the instrument decides
// anew meanwhile changes on its card; an earlier cell that it came to doubt is the last of the list: no card moves away.

const FETCH_MS = 1000; // at most so often, when all are there
const LOOK_MS = 1000; // so long a class that changed must have stood there before it is confirmed
const ASKED = 50; // cells in one question

const $ = (id) => document.getElementById(id);

let look = null; // what the page gives: see follow
let [specimen, classes] = ["", []]; // whose cells are listed, and the names that a cell can have
let [doubtful, counted] = [0, 0]; // how many cells there are to review, and in all
let all = false; // whether all cells are listed
let [complete, pending] = [-1, 0]; // how many had been counted when nothing was missing in the list
let [decided, compared] = ["", ""]; // tells each change of the cells' classes: the newest, and that which the list shows
let [comparing, round] = [false, 0]; // `round` grows when the list is begun anew
const shown = new WeakMap(); // card -> its cell

/**
 * Take the newest state; `helpers` has colour(name), human(name), wish(path, body), which sends a wish and returns why it
 * was refused, tell(reason), which shows that on the page, and reveal(number), which shows a cell on the map.
 */
export function follow(state, helpers) {
  look = helpers;
  if (state.specimen !== specimen) {
    if ($("review-dialog").open) look.tell(`the list of cells was closed: the count is now that of ${state.specimen}`);
    specimen = state.specimen;
    $("review-dialog").close();
  }
  classes = state.classes.map(({ name }) => name);
  doubtful = state.review;
  counted = state.classes.reduce((sum, { count }) => sum + count, 0);
  decided = `${state.revisions} ${state.namings}`;
  $("review-show").hidden = counted === 0;
  $("gallery").classList.toggle("mapped", state.map !== null);
  if ($("review-dialog").open) fetchSoon(0);
  compareSoon();
}

/** Open the list, unless there are no cells or another dialog waits for an answer. */
export function show() {
  if ($("review-show").hidden || document.querySelector("dialog[open]")) return;
  $("review-dialog").showModal();
  list(doubtful === 0);
}

/** List all cells, or those to review. */
function list(everyone) {
  all = everyone;
  $("review-all").textContent = all ? "To review" : "All cells";
  $("review-title").textContent = all ? "All cells" : "Cells to review";
  $("review-refusal").textContent = "";
  $("gallery").replaceChildren();
  [complete, compared] = [-1, decided];
  round += 1;
  fetchSoon(0);
}

function fetchSoon(wait) {
  // A cell that was named stays in the list, so that it can be named again.
  const listed = $("gallery").querySelectorAll(all ? "li" : "li.doubtful").length;
  const missing = (all ? counted : doubtful) - listed;
  const none = $("gallery").childElementCount === 0 && missing <= 0 ? "There are none." : "";
  const where = nearEnd() ? "to come" : "further down";
  $("review-more").textContent = missing > 0 ? `${missing} more ${where}.` : none;
  if (pending || complete === counted || !nearEnd()) return;
  pending = setTimeout(async () => {
    const before = counted;
    const found = await load(specimen, all).catch(() => null);
    pending = 0;
    if (found === 0) complete = before;
    if ($("review-dialog").open) fetchSoon(found ? 0 : FETCH_MS);
  }, wait);
}

/** Add the next cells to the list; return how many came, null where none could be had. */
async function load(whose, everyone) {
  const last = newest();
  const cells = await ask(`after=${last}${everyone ? "" : "&review=1"}`);
  if (!cells || whose !== specimen) return null;
  if (everyone !== all || newest() !== last) return 1; // the list was begun anew meanwhile
  $("gallery").append(...cells.map(card));
  return cells.length;
}

/** Return what the instrument has of some cells; null where that cannot be had, or its specimen is another one. */
async function ask(query) {
  const answer = await fetch(`/cells?${query}`, { cache: "no-store" });
  const found = answer.ok ? await answer.json() : null;
  return found?.specimen === specimen ? found.cells : null;
}

const newest = () => Math.max(0, ...[...$("gallery").children].map((item) => Number(item.dataset.number)));

async function compareSoon() {
  if (comparing || compared === decided || !$("review-dialog").open) return;
  comparing = true;
  const now = decided;
  if (await compare(specimen, round).catch(() => false)) compared = now;
  setTimeout(() => {
    comparing = false;
    compareSoon();
  }, FETCH_MS);
}

/** Show the listed cells as they are decided now, and earlier ones that became doubtful; return whether all are. */
async function compare(whose, begun) {
  const cells = await ask("after=0&brief=1");
  const another = () => whose !== specimen || begun !== round;
  if (!cells || another()) return false;
  const items = new Map([...$("gallery").children].map((item) => [Number(item.dataset.number), item]));
  const last = newest();
  const stale = cells.filter((cell) => {
    const item = items.get(cell.number);
    return item ? differs(shown.get(item), cell) : cell.review && !all && cell.number < last;
  });
  const changing = stale.map(({ number }) => number).filter((number) => !touched(items.get(number)));
  const every = changing.length === stale.length;
  while (changing.length) {
    const found = await ask(`only=${changing.splice(0, ASKED)}`);
    if (!found || another()) return false;
    for (const cell of found) change(items.get(cell.number), cell);
  }
  complete = -1;
  fetchSoon(0);
  return every;
}

function differs(one, other) {
  return ["name", "review", "namings"].some((key) => one[key] !== other[key]) || one.why.join() !== other.why.join();
}

/** Return whether a person has chosen a class on a card, or waits for the answer to one. */
const touched = (item) => item?.classList.contains("chosen") || (item && shown.get(item).asked);

/** Show a cell as it is decided now, on its card unless a person has touched that meanwhile. */
function change(item, cell) {
  if (!item) $("gallery").append(card(cell));
  else if (!touched(item)) {
    const changedMs = cell.name === shown.get(item).name ? shown.get(item).changedMs : performance.now();
    put(item, Object.assign(shown.get(item), cell, { changedMs }));
  }
}

function card(cell) {
  const { number, source } = cell;
  const item = $("gallery-cell").content.firstElementChild.cloneNode(true);
  item.dataset.number = number;
  item.querySelector(".number").textContent = number;
  item.querySelector(".where").textContent = typeof source === "string" ? source : "";
  const choice = item.querySelector("select");
  choice.append(...classes.map((one) => new Option(look.human(one), one)));
  choice.ariaLabel = `Class of cell ${number}`;
  const confirm = () => give(item, cell, choice.value);
  choice.addEventListener("change", () => item.classList.toggle("chosen", choice.value !== cell.name));
  // The page has taken the Enter of a barcode scanner before.
  choice.addEventListener("keydown", (press) => press.key === "Enter" && !press.defaultPrevented && confirm());
  item.querySelector(".confirm").addEventListener("click", confirm);
  const reveal = item.querySelector(".reveal");
  reveal.ariaLabel = `Cell ${number} on the map`;
  reveal.addEventListener("click", () => {
    $("review-dialog").close();
    look.reveal(number);
  });
  shown.set(item, cell);
  put(item, cell);
  return item;
}

function put(item, cell) {
  item.querySelector("img").src = `data:image/jpeg;base64,${cell.jpeg}`;
  item.querySelector("select").value = cell.name;
  paint(item, cell);
}

function paint(item, { name, confidence, instrument, review, namings, why }) {
  const [what, confirm] = [item.querySelector(".what"), item.querySelector(".confirm")];
  item.classList.toggle("doubtful", review);
  item.classList.remove("chosen");
  item.style.setProperty("--class", look.colour(name));
  const sure = `${Math.round(100 * confidence)}\u00a0%`;
  what.textContent = namings ? `${look.human(name)} · named` : `${look.human(name)} ${sure}`;
  const said = `the instrument said ${look.human(instrument)} ${sure}`;
  item.querySelector(".why").textContent = namings ? said : why.join("; ");
  confirm.textContent = namings ? "Change" : "Confirm";
  confirm.ariaLabel = `${confirm.textContent} the class of cell ${item.dataset.number}`;
}

/** Give a cell the class that the person chose, and go on to the next one. */
async function give(item, cell, name) {
  const { number, namings, asked, changedMs } = cell;
  if (asked) return; // a double click
  if (name === cell.name && performance.now() - changedMs < LOOK_MS) {
    $("review-refusal").textContent = `Cell ${number}: decided anew just now; look at it, then confirm.`;
    return;
  }
  cell.asked = true;
  const reason = await look.wish("/cells", { specimen, number, name, namings });
  cell.asked = false;
  const said = reason && `Cell ${number}: ${reason}`;
  $("review-refusal").textContent = said;
  $("review-said").textContent = reason ? "" : `cell ${number} named ${look.human(name)}`;
  if (reason && !$("review-dialog").open) look.tell(said);
  if (reason) return redraw(item, number).catch(() => null);
  // A class that was named has changed as well: a slow double click must not name it twice.
  const named = { name, review: false, why: [], namings: namings + 1, changedMs: performance.now() };
  paint(item, Object.assign(cell, named));
  if (item.contains(document.activeElement)) item.nextElementSibling?.querySelector("select").focus();
}

/** Show a cell as the instrument has it now: somebody else may have named it. */
async function redraw(item, number) {
  const [whose, found] = [specimen, await ask(`only=${number}`)];
  if (whose === specimen && found?.length) put(item, Object.assign(shown.get(item), found[0]));
}

/** Return whether the list's end is within two screens: of thousands of cells, those further down wait. */
function nearEnd() {
  const { scrollTop, clientHeight, scrollHeight } = $("gallery");
  return scrollTop + 3 * clientHeight >= scrollHeight;
}

/** Return whether the list may go: classes that were chosen and not confirmed are told once. */
function settled() {
  const chosen = [...$("gallery").querySelectorAll("li.chosen")].map((item) => item.dataset.number);
  const told = `Cell ${chosen.join(", ")}: chosen, but not confirmed. Confirm, or leave once more.`;
  if (chosen.length === 0 || $("review-refusal").textContent === told) return true;
  $("review-refusal").textContent = told;
  return false;
}

$("review-show").addEventListener("click", show);
$("review-all").addEventListener("click", () => settled() && list(!all));
$("review-close").addEventListener("click", () => settled() && $("review-dialog").close());
$("gallery").addEventListener("scroll", () => fetchSoon(0));
new ResizeObserver(() => $("review-dialog").open && fetchSoon(0)).observe($("gallery"));
$("review-dialog").addEventListener("cancel", (escape) => settled() || escape.preventDefault());
