// Files in, answers out: the list of scans, and ways in and out. No framework, so that nothing has to be built.

import { details } from "./details.js";
import { button, byId, make, words } from "./elements.js";
import { candidates, dropped, named } from "./files.js";
import { ask, Failed, model as facts } from "./requests.js";
import { saveCsv, saveJson } from "./saving.js";
import { Scan } from "./scan.js";

const AT_ONCE = 2; // requests: answers come one by one, and the server has room for others

const scans = []; // in the order given
const queue = [];
let running = 0;
let unsaved = false;
let only = ""; // the kind of scan that the list is narrowed to
let model = {};

// --- from files to answers

async function add(files, { folder = false } = {}) {
  const chosen = folder ? await candidates(files) : files;
  const ignored = files.length - chosen.length;
  byId("ignored").textContent = ignored ? `Left out of the folder, as no scans: ${ignored}.` : "";
  if (!chosen.length) return;
  const batch = { scans: new Set(), pending: chosen.length };
  for (const { file, path } of chosen) {
    const scan = new Scan(file, path);
    scan.batch = batch;
    batch.scans.add(scan);
    scans.push(scan);
    queue.push(scan);
    enlist(scan);
  }
  only = byId("named").value = "";
  document.body.classList.add("busy");
  byId("list").hidden = false;
  arrange();
  const { card, parts } = scans.at(-1);
  (batch.scans.size > 1 ? byId("list") : card).scrollIntoView();
  if (document.activeElement.matches(".sample")) parts.toggle.focus({ preventScroll: true }); // it is hidden now
  work();
}

function work() {
  tell();
  while (running < AT_ONCE && queue.length) {
    running += 1;
    answer(queue.shift()).finally(() => {
      running -= 1;
      work();
    });
  }
}

async function answer(scan) {
  scan.state = "reading";
  const say = (text) => {
    scan.note = text;
    row(scan);
  };
  try {
    // The picture of a scan that will be opened at once comes with its answer.
    const results = await ask(scan.file, { explain: scan.batch.scans.size === 1 }, say);
    if (scans.includes(scan)) { // not removed meanwhile
      scan.take(results);
      unsaved = true;
      join(scan);
    }
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    Object.assign(scan, { state: "failed", note: error.message, again: error.again });
    row(scan);
  }
  const { batch } = scan;
  batch.pending -= 1;
  if (batch.pending === 0 && batch.scans.size === 1) {
    const [single] = batch.scans;
    open(single, true);
    single.card.scrollIntoView();
  }
}

/** Files of one series are one scan: the first of them takes over the others. */
function join(scan) {
  const first = scan.series ? scans.find((other) => other !== scan && other.series === scan.series) : undefined;
  if (first) {
    first.merge(scan);
    remove(scan);
    if (first.open) open(first, true);
  }
  row(first ?? scan);
}

// --- the list

function enlist(scan) {
  const details = make("div", { id: `scan-${scan.id}`, className: "details", hidden: true });
  const toggle = make("button", { type: "button", className: "row" });
  toggle.setAttribute("aria-controls", details.id);
  toggle.addEventListener("click", () => {
    if (toggle.ariaDisabled !== "true") open(scan, !scan.open);
  });
  const away = button("×", () => discard(scan), { className: "away", ariaLabel: `Remove ${scan.path}` });
  scan.card = make("li", {}, make("div", { className: "head" }, make("h2", {}, toggle), away), details);
  scan.parts = { toggle, details, away };
  row(scan);
}

/** Write the line of a scan. */
function row(scan) {
  const { toggle, away } = scan.parts;
  const cells = [make("span", { className: "name" }, scan.path)];
  if (scan.state === "done") {
    const { result } = scan;
    const [verdict, figure] = {
      answer: [words(result.label), result.probabilities[result.label].toFixed(3)],
      unsure: [`unsure: ${result.likely.map(words).join(" or ")}`, ""],
    }[result.state] ?? ["no answer", ""];
    cells.push(make("span", { className: "verdict" }, verdict), make("span", { className: "figure" }, figure));
    if (scan.slices.length > 1) cells[0].append(make("span", { className: "soft" }, ` ${scan.place(scan.middle)}`));
  } else {
    cells.push(make("span", { className: "verdict" }, scan.state === "failed" ? "not read" : scan.note));
  }
  toggle.replaceChildren(...cells.flatMap((cell) => [cell, " "]));
  toggle.ariaDisabled = scan.state !== "done" && scan.state !== "failed"; // disabled would lose the focus
  toggle.setAttribute("aria-expanded", Boolean(scan.open));
  away.ariaLabel = `Remove ${scan.path}`;
  scan.card.className = `is-${scan.state === "done" ? scan.result.state.replace(" ", "-") : scan.state}`;
}

function open(scan, wanted) {
  scan.open = wanted;
  const place = scan.parts.details;
  place.hidden = !wanted;
  row(scan);
  if (!wanted) {
    scan.forgetPictures();
    place.replaceChildren();
  } else if (scan.state === "failed") {
    const again = button("Try again", () => {
      scan.parts.toggle.focus(); // the button goes, and the focus would be lost with it
      open(scan, false);
      Object.assign(scan, { state: "waiting", note: "waiting for its turn" });
      scan.batch = { scans: new Set([scan]), pending: 1 };
      queue.push(scan);
      row(scan);
      work();
    });
    place.replaceChildren(make("p", {}, scan.note), ...(scan.again ? [again] : []));
  } else {
    details(scan, place, model);
  }
}

function remove(scan) {
  for (const list of [scans, queue]) if (list.includes(scan)) list.splice(list.indexOf(scan), 1);
  scan.batch.scans.delete(scan);
  scan.card.remove();
}

function discard(scan) {
  const cards = [...byId("cards").children].filter((card) => card === scan.card || !card.hidden);
  const at = cards.indexOf(scan.card);
  const next = cards[at + 1] ?? cards[at - 1];
  if (scan.state === "waiting") scan.batch.pending -= 1;
  remove(scan);
  (next?.querySelector(".row") ?? byId("choose")).focus();
  tell();
}

const ORDERS = {
  added: (scan) => scans.indexOf(scan),
  name: (scan) => scan.path,
  answer: (scan) => scan.kind,
  probability: (scan) => -Math.max(...Object.values(scan.result?.probabilities ?? { none: -1 })),
  novelty: (scan) => -(scan.result?.novelty ?? -1),
};

/** Put the cards in the chosen order, and show those that are asked for. */
function arrange() {
  const key = ORDERS[byId("order").value];
  const text = byId("named").value.toLowerCase();
  const ordered = scans.map((scan) => [key(scan), scan]).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const cards = ordered.map(([, { card }]) => card);
  const list = byId("cards");
  const focused = document.activeElement;
  cards.forEach((card, i) => {
    if (list.children[i] !== card) list.insertBefore(card, list.children[i]);
  });
  if (list.contains(focused)) focused.focus({ preventScroll: true }); // what is moved loses it
  for (const scan of scans) {
    scan.card.hidden = (only && scan.kind !== only) || !scan.path.toLowerCase().includes(text);
  }
}

let told = 0;

/** Say how far it is, and how many scans have each answer; once a frame, however many answers come. */
function tell() {
  told ||= requestAnimationFrame(() => {
    told = 0;
    summarise();
  });
}

function summarise() {
  const failed = scans.filter((scan) => scan.state === "failed").length;
  const done = scans.filter((scan) => scan.state === "done").length + failed;
  byId("progress").textContent = `${done} of ${scans.length} done${failed ? `, ${failed} failed` : ""}`;
  byId("list").hidden = !scans.length;
  document.body.classList.toggle("busy", scans.length > 0);
  for (const each of document.querySelectorAll(".take")) each.disabled = done === 0;
  if (!scans.length) unsaved = false;

  const several = scans.length > 1;
  byId("tools").hidden = !several;
  const kinds = [...(model.classes ?? []), "unsure", "no answer", "failed"];
  const count = (kind) => scans.filter((scan) => scan.kind === kind).length;
  if (only && !count(only)) only = "";
  const chips = [["", scans.length], ...kinds.map((kind) => [kind, count(kind)])];
  const shown = chips.filter(([, number]) => number).map(([kind, number]) => {
    const name = kind === "" ? "all" : kind === "failed" ? "not read" : words(kind);
    const chip = button(`${name} ${number}`, () => {
      only = kind;
      summarise();
    }, { className: "chip" });
    chip.dataset.kind = kind;
    chip.setAttribute("aria-pressed", only === kind);
    return chip;
  });
  const focused = document.activeElement.dataset.kind;
  byId("kinds-found").replaceChildren(...shown);
  shown.find((chip) => chip.dataset.kind === focused)?.focus();
  if (several) arrange();
}

// --- what the answers are worth, as the classifier's file states it

const share = (value) => `${(100 * value).toFixed(1)} %`;

function worth({ images, n, answered, error, missed, coverage_90, coverage_95 }) {
  const parts = [`${share(answered)} answered`];
  if (error !== undefined) parts.push(`${share(error)} of the answers wrong`);
  if (missed !== undefined) parts.push(`${share(missed)} of the tumours answered as healthy`);
  if (coverage_90 !== undefined) parts.push(`the 90 % set held the true class in ${share(coverage_90)}`);
  if (coverage_95 !== undefined) parts.push(`the 95 % set in ${share(coverage_95)}`);
  return make("li", {}, `${images} (${n} images): ${parts.join(", ")}.`);
}

async function introduce() {
  model = await facts();
  const { measured = [], expects = "", report, sha256 = "" } = model;
  byId("worth").hidden = measured.length === 0;
  byId("measured").replaceChildren(...measured.map(worth));
  const said = expects ? [`It is meant for ${expects}. `] : [];
  if (measured.length) {
    const [{ images, n, answered, error }] = measured;
    const wrong = error === undefined ? "" : `, and ${share(error)} of these answers were wrong`;
    said.push(`Measured on ${images} (${n} images): ${share(answered)} were answered${wrong}. `);
  }
  if (report) said.push(make("a", { href: "report" }, "Report of all scores"));
  byId("expects").replaceChildren(...said);
  byId("model").textContent = sha256 && `Classifier ${sha256.slice(0, 12)}. `;
  tell();
}

introduce();

// --- ways in and out

// Buttons of our own: the wording of a file input is the browser's, which would always say that no file is chosen.
for (const [opener, input, folder] of [["choose", "files", false], ["choose-folder", "folder", true]]) {
  byId(opener).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", ({ target }) => {
    add(named(target.files), { folder });
    target.value = ""; // so that the same file can be chosen once more
  });
}
for (const sample of document.querySelectorAll(".sample")) {
  sample.addEventListener("click", async () => {
    const response = await fetch(sample.dataset.file);
    add(named([new File([await response.blob()], sample.dataset.file.split("/").pop(), { type: "image/jpeg" })]));
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(named(event.clipboardData.files));
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging"); // out of the window
});
document.addEventListener("drop", async (event) => {
  document.body.classList.remove("dragging");
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  const { files, folder } = await dropped(event.dataTransfer);
  add(files, { folder });
});
byId("order").addEventListener("change", arrange);
byId("named").addEventListener("input", arrange);
byId("clear").addEventListener("click", () => {
  [...scans].forEach(remove);
  unsaved = false;
  tell();
  byId("choose").focus();
});
for (const [id, write] of [["save-json", saveJson], ["save-csv", saveCsv]]) {
  byId(id).addEventListener("click", () => {
    write(scans, model);
    unsaved = false;
  });
}
addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault();
});
