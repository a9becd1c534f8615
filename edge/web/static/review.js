// The cells that a person must look at: the sharpest picture of each, what it was taken for, and why it is doubtful.

const $ = (id) => document.getElementById(id);

let look = null; // names and colours, given by the page
let reveal = null; // shows a cell on the map; null where there is none
let [specimen, known] = ["", 0]; // whose cells are shown, and how many there are

/** Take the newest state; `helpers` has colour(name), human(name) and reveal(number). */
export function follow(state, helpers) {
  look = helpers;
  reveal = state.map ? helpers.reveal : null;
  $("review-show").hidden = state.review === 0;
  const changed = specimen !== state.specimen || known !== state.review;
  [specimen, known] = [state.specimen, state.review];
  if (changed && $("review-dialog").open) load();
}

/** Open the list, unless it is empty. */
export async function show() {
  if ($("review-show").hidden || document.querySelector("dialog[open]")) return;
  if (await load()) $("review-dialog").showModal();
}

async function load() {
  const answer = await fetch("/doubtful", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return false;
  const cells = await answer.json();
  $("doubtful").replaceChildren(...cells.map(card));
  $("review-more").textContent = cells.length < known ? `The newest ${cells.length} of ${known}.` : "";
  return true;
}

function card({ number, name, confidence, why, source, jpeg }) {
  const item = $("doubtful-cell").content.firstElementChild.cloneNode(true);
  item.style.setProperty("--class", look.colour(name));
  const picture = item.querySelector("img");
  picture.src = `data:image/jpeg;base64,${jpeg}`;
  picture.alt = `cell ${number}`;
  item.querySelector(".number").textContent = number;
  item.querySelector(".what").textContent = `${look.human(name)} ${Math.round(100 * confidence)}\u00a0%`;
  item.querySelector(".why").textContent = why.join("; ");
  item.querySelector(".where").textContent = typeof source === "string" ? source : "";
  const button = item.querySelector("button");
  button.hidden = !reveal;
  button.addEventListener("click", () => {
    $("review-dialog").close();
    reveal(number);
  });
  return item;
}

$("review-show").addEventListener("click", show);
$("review-close").addEventListener("click", () => $("review-dialog").close());
