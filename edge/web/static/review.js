// The cells that a person must look at, in the order of their counting: the sharpest picture of each, what it was
// taken for, and why it is doubtful.

const FETCH_MS = 1000; // at most so often, when all are there

const $ = (id) => document.getElementById(id);

let look = null; // names and colours, and reveal(number), given by the page
let [specimen, wanted] = ["", 0]; // whose cells are listed, and how many there are to be
let pending = 0;

/** Take the newest state; `helpers` has colour(name), human(name) and reveal(number), which shows a cell on the map. */
export function follow(state, helpers) {
  look = helpers;
  if (state.specimen !== specimen) forget(state.specimen);
  wanted = state.review;
  $("review-show").hidden = wanted === 0;
  $("doubtful").classList.toggle("mapped", state.map !== null);
  if ($("review-dialog").open) fetchSoon(0);
}

/** Open the list, unless it is empty or another dialog waits for an answer. */
export function show() {
  if ($("review-show").hidden || document.querySelector("dialog[open]")) return;
  $("review-dialog").showModal();
  fetchSoon(0);
}

function forget(next) {
  specimen = next;
  $("review-dialog").close();
  $("doubtful").replaceChildren();
}

function fetchSoon(wait) {
  const missing = wanted - $("doubtful").children.length;
  $("review-more").textContent = missing > 0 ? `${missing} more to come.` : "";
  if (pending || missing <= 0) return;
  pending = setTimeout(async () => {
    const some = await load(specimen).catch(() => false);
    pending = 0;
    if ($("review-dialog").open) fetchSoon(some ? 0 : FETCH_MS);
  }, wait);
}

/** Add the next cells to the list; return whether there were some. */
async function load(whose) {
  const last = Number($("doubtful").lastElementChild?.dataset.number ?? 0);
  const answer = await fetch(`/doubtful?after=${last}`, { cache: "no-store" });
  if (!answer.ok) return false;
  const found = await answer.json();
  if (found.specimen !== specimen || whose !== specimen) return false;
  $("doubtful").append(...found.cells.map(card));
  return found.cells.length > 0;
}

function card({ number, name, confidence, why, source, jpeg }) {
  const item = $("doubtful-cell").content.firstElementChild.cloneNode(true);
  item.dataset.number = number;
  item.style.setProperty("--class", look.colour(name));
  item.querySelector("img").src = `data:image/jpeg;base64,${jpeg}`;
  item.querySelector(".number").textContent = number;
  item.querySelector(".what").textContent = `${look.human(name)} ${Math.round(100 * confidence)}\u00a0%`;
  item.querySelector(".why").textContent = why.join("; ");
  item.querySelector(".where").textContent = typeof source === "string" ? source : "";
  const button = item.querySelector("button");
  button.ariaLabel = `Cell ${number} on the map`;
  button.addEventListener("click", () => {
    $("review-dialog").close();
    look.reveal(number);
  });
  return item;
}

$("review-show").addEventListener("click", show);
$("review-close").addEventListener("click", () => $("review-dialog").close());
