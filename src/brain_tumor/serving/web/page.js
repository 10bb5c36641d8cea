// Files in, a card per answer out. No framework, so that nothing has to be built or fetched from elsewhere.
// What comes from files is put in as text, never as markup.

const AT_ONCE = 2; // requests: answers come one by one, and the server has room for others
const TRIES = 5; // further ones, while the server is busy
const LONGEST_WAIT = 30; // seconds between two tries, whatever is asked for
const OPACITY = 60; // percent
const SCANS = "What is read: JPEG, PNG, TIFF, BMP, WebP, PGM, DICOM and NIfTI.";

const jobs = []; // in the order given: {file, card, state, results}
const queue = [];
let running = 0;

const byId = (id) => document.getElementById(id);
const words = (name) => name.replaceAll("_", " ");

/** An element with properties and children; strings among these become text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- from files to answers

function add(files) {
  for (const file of files) {
    const job = { file, card: make("li", { tabIndex: -1 }), state: "waiting", results: [] };
    byId("cards").append(job.card);
    jobs.push(job);
    wait(job);
  }
  work();
}

function wait(job) {
  job.state = "waiting";
  fill(job.card, "waiting", make("h2", {}, job.file.name), make("p", { className: "soft" }, "waiting for its turn"));
  queue.push(job);
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

async function answer(job) {
  let response, told;
  try {
    response = await send(job.file, (text) => (job.card.lastChild.textContent = text));
    told = await response.json().catch(() => ({})); // a proxy in between answers in its own way
  } catch {
    return fail(job, "Could not be sent: the server cannot be reached, or the file cannot be read.", true);
  }
  const { ok, status } = response;
  if (ok && told.results?.length) return finish(job, told.results);
  const said = (told.detail ?? `the server answered with status ${status}`).replace(/\.?$/, ".");
  const again = !(status >= 400 && status < 500) || status === 408 || status === 429; // not where the file is at fault
  fail(job, status === 422 ? `${said} ${SCANS}` : said, again);
}

/** The server's response; while it is busy, waits as long as it asks and sends again. */
async function send(file, say) {
  for (let tries = 0; ; tries += 1) {
    say("being read");
    const form = new FormData();
    form.append("files", file);
    const response = await fetch("v1/predict?explain=true", { method: "POST", body: form });
    if (response.status !== 503 || tries === TRIES) return response;
    const asked = Number.parseFloat(response.headers.get("Retry-After"));
    const seconds = Math.min(Number.isFinite(asked) ? Math.max(asked, 0) : 1, LONGEST_WAIT);
    say(`The server is busy: trying again in ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

function finish(job, results) {
  const named = results.map((result) => ({ ...result, name: job.file.name })); // forms escape quotes in names
  const others = named.slice(1).map(() => make("li"));
  job.card.after(...others);
  [job.card, ...others].forEach((card, i) => show(card, named[i]));
  // Pictures and maps are not kept: they stand on the page, and would weigh megabytes in the download.
  job.results = named.map(({ map, picture, overlay, ...rest }) => rest);
  job.state = "done";
}

function fail(job, text, again) {
  job.state = "failed";
  job.results = [{ name: job.file.name, error: text }];
  fill(job.card, "failed", make("h2", {}, job.file.name), make("p", {}, text));
  if (!again) return;
  const button = make("button", { className: "button quiet", type: "button" }, "Try again");
  button.addEventListener("click", () => {
    job.card.focus(); // the button goes, and the focus would be lost with it
    wait(job);
    work();
  });
  job.card.append(button);
}

function tell() {
  const failed = jobs.filter((job) => job.state === "failed").length;
  const done = jobs.filter((job) => job.state === "done").length + failed;
  if (jobs.length) byId("progress").textContent = `${done} of ${jobs.length} done${failed ? `, ${failed} failed` : ""}`;
  byId("download").disabled = done === 0;
}

// --- cards

function fill(card, kind, ...children) {
  card.className = kind;
  card.replaceChildren(...children);
}

function show(card, result) {
  const place = result.slice === undefined ? "" : `, slice ${result.slice}`;
  const heading = make("h2", {}, `${result.name}${place}`);
  if (result.error) return fill(card, "failed", heading, make("p", {}, result.error));
  const said = make("div", {}, ...call(result), probabilities(result), facts(result));
  fill(card, "answered", heading, figure(result), said);
}

function call({ state, label, likely, reasons, probabilities }) {
  if (state === "answer") return [make("p", { className: "answer" }, words(label))];
  const why = make("ul", { className: "reasons" }, ...reasons.map((reason) => make("li", {}, reason)));
  if (state === "unsure") {
    const either = likely.map((name) => `${words(name)} (${probabilities[name].toFixed(3)})`).join(" or ");
    return [make("p", { className: "answer none" }, "Unsure"), make("p", {}, either), why];
  }
  return [
    make("p", { className: "answer none" }, "No answer"),
    why,
    make("p", { className: "soft" }, `Nearest class: ${words(label)} (${probabilities[label].toFixed(3)})`),
  ];
}

function figure({ name, label, picture, overlay }) {
  const layer = make("img", { src: overlay, alt: "" });
  const slider = make("input", { type: "range", min: 0, max: 100, value: OPACITY });
  const percent = make("span", { ariaHidden: "true" }); // the slider tells its value itself
  const lay = () => {
    layer.style.opacity = slider.value / 100;
    percent.textContent = `${slider.value} %`;
  };
  slider.addEventListener("input", lay);
  lay();
  const scan = make("div", { className: "scan" }, make("img", { src: picture, alt: `The scan ${name}` }), layer);
  const map = make("label", { className: "map" }, "Map", slider, percent);
  return make("figure", {}, scan, map, make("figcaption", {}, `Bright: speaks for ${words(label)}`));
}

function probabilities({ label, probabilities }) {
  const table = make("table", {}, make("caption", {}, "Probabilities"));
  for (const [name, value] of Object.entries(probabilities)) {
    const cell = make("td", {}, value.toFixed(3));
    cell.style.setProperty("--share", value);
    const row = make("tr", {}, make("th", { scope: "row" }, words(name)), cell);
    row.classList.toggle("called", name === label);
    table.append(row);
  }
  return table;
}

function facts({ prediction_sets, novelty }) {
  const sets = Object.entries(prediction_sets).map(([level, names]) =>
    names.length
      ? `${level} % set: ${names.map(words).join(", ")}.`
      : `${level} % set: empty, none of the classes is typical.`,
  );
  const far = `Novelty ${novelty.toFixed(2)}; above 1 it is likely no scan of the kind the network has learned from.`;
  return make("div", { className: "facts soft" }, ...[...sets, far].map((text) => make("p", {}, text)));
}

// --- what the answers are worth, as the classifier's file states it

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function worth({ n, answered, images, error, missed, coverage_90, coverage_95 }) {
  const parts = [`${percent(answered)} answered`];
  if (error !== undefined) parts.push(`${percent(error)} of the answers wrong`);
  if (missed !== undefined) parts.push(`${percent(missed)} of the tumours answered as healthy`);
  if (coverage_90 !== undefined) parts.push(`the 90 % set held the true class in ${percent(coverage_90)}`);
  if (coverage_95 !== undefined) parts.push(`the 95 % set in ${percent(coverage_95)}`);
  return make("li", {}, `${images} (${n} images): ${parts.join(", ")}.`);
}

async function tellWorth() {
  const response = await fetch("v1/model").catch(() => null);
  const { measured = [] } = response?.ok ? await response.json() : {};
  byId("worth").hidden = measured.length === 0;
  byId("measured").replaceChildren(...measured.map(worth));
}

tellWorth();

// --- ways in and out

// A button of our own: the wording of a file input is the browser's, which would always say that no file is chosen.
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = ""; // so that the same file can be chosen once more
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging"); // out of the window
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dragging");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});
byId("download").addEventListener("click", () => {
  const text = JSON.stringify({ results: jobs.flatMap((job) => job.results) }, null, 2);
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: address, download: "answers.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
});
