// What is shown of a scan once it is opened: the answer, and the picture with its map.

import { button, draw, make, words } from "./elements.js";
import { ask } from "./requests.js";
import { asText, savePicture, verdict } from "./saving.js";

const OPACITY = 60; // percent
const RESTING = 50; // ms that the slider stays on a slice before it is asked for
const COLOURS = 6; // of lines in page.css

/** Fill `place` with the details of a scan; every change of the slice fills the parts that depend on it. */
export function details(scan, place, model) {
  const said = make("div", { className: "said" });
  const view = viewer(scan);
  const update = async (index) => {
    scan.current = index;
    const slice = scan.slices[index];
    view.point(index);
    if (!slice.result || !slice.picture) {
      await new Promise((resolve) => setTimeout(resolve, RESTING));
      if (scan.current !== index) return; // the slider is still moving
      try {
        const options = { slice: slice.number ?? "middle", explain: true };
        for (const result of await ask(slice.file, options)) scan.keep(slice, result);
      } catch (error) {
        if (scan.current === index) {
          said.replaceChildren(make("p", { className: "failed" }, error.message));
          view.blank();
        }
        return;
      }
    }
    if (scan.current !== index) return; // the slider has moved on
    const { result } = slice;
    const computed = figures(result);
    said.replaceChildren(...answer(result), ...shown(result, computed, view), actions(result, index, slice));
    view.show(slice, result);
  };
  const actions = (result, index, slice) => {
    const copy = button("Copy answer", async () => {
      await navigator.clipboard.writeText(asText(result, scan.place(index), model));
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy answer"), 2000);
    });
    copy.hidden = !navigator.clipboard; // only where the browser trusts the address
    const picture = button("Save picture", () => {
      const map = view.opacity() > 0 ? `Map of ${words(result.label)}, ${Math.round(100 * view.opacity())} %. ` : "";
      const lines = [
        [result.name, scan.place(index)].filter(Boolean).join(", "),
        verdict(result),
        `${map}Research use only. Classifier ${model.sha256?.slice(0, 12)}`,
      ];
      const name = `${result.name.split("/").pop().replace(/\.\w+$/, "")}${result.slice === undefined ? "" : `-${result.slice}`}-map.png`;
      savePicture({ ...slice.picture, opacity: view.opacity(), window: view.window(), lines, name });
    });
    return make("p", { className: "actions" }, copy, picture);
  };
  view.onslice = update;
  place.replaceChildren(said, view.element);
  if (scan.slices.length > 1) view.probabilities();
  return update(scan.current);
}

function answer({ state, label, likely, reasons, probabilities }) {
  if (state === "answer") {
    const sure = make("p", { className: "soft" }, `Probability ${probabilities[label].toFixed(3)}`);
    return [make("p", { className: "answer" }, words(label)), sure];
  }
  const why = make("ul", { className: "reasons" }, ...reasons.map((reason) => make("li", {}, reason)));
  const either = likely.map((name) => `${words(name)} (${probabilities[name].toFixed(3)})`).join(" or ");
  const title = make("p", { className: "answer none" }, state === "unsure" ? "Unsure" : "No answer");
  return state === "unsure" ? [title, make("p", { className: "either" }, either), why] : [title, why];
}

/** What the network computed; where it gives no answer, only on demand, and the map with it. */
function shown(result, computed, view) {
  if (result.state === "answer") return computed;
  const refused = result.state !== "unsure";
  const summary = make("summary", {}, refused ? "What the network computed nevertheless" : "Further figures");
  const [table, facts] = computed;
  const rest = make("details", { className: "soft" }, summary, ...(refused ? computed : [facts]));
  if (refused) rest.addEventListener("toggle", () => view.allowMap(rest.open));
  return refused ? [rest] : [table, rest];
}

function figures({ state, label, probabilities, prediction_sets, novelty }) {
  const table = make("table", {}, make("caption", {}, "Probabilities"));
  for (const [name, value] of Object.entries(probabilities)) {
    const cell = make("td", {}, value.toFixed(3));
    cell.style.setProperty("--share", value);
    const row = make("tr", {}, make("th", { scope: "row" }, words(name)), cell);
    row.classList.toggle("called", state === "answer" && name === label);
    table.append(row);
  }
  const sets = Object.entries(prediction_sets).map(([level, names]) =>
    names.length
      ? `${level} % set: ${names.map(words).join(", ")}.`
      : `${level} % set: empty, none of the classes is typical.`,
  );
  const far = `Novelty ${novelty.toFixed(2)}; above 1 it is likely no scan of the kind the network has learned from.`;
  return [table, make("div", { className: "facts soft" }, ...[...sets, far].map((text) => make("p", {}, text)))];
}

/** The picture with its map, and what changes how they are shown; none of it changes an answer. */
function viewer(scan) {
  const picture = make("img", { alt: "" });
  const layer = make("img", { alt: "", className: "layer" });
  const layers = make("div", { className: "layers" }, picture, layer);
  const frame = make("div", { className: "scan", tabIndex: 0, ariaLabel: "Picture; scrolls when it is enlarged" }, layers);
  frame.setAttribute("role", "group");

  const parts = ["R", "G", "B"].map((channel) => draw(`feFunc${channel}`, { type: "linear" }));
  const id = `window-${scan.id}`;
  const filter = draw("filter", { id, "color-interpolation-filters": "sRGB" }, draw("feComponentTransfer", {}, ...parts));

  const opacity = knob("Map", 0, 100, OPACITY, (value) => `${value} %`);
  const zoom = knob("Zoom", 100, 800, 100, (value) => `${value} %`);
  const width = knob("Window", 1, 100, 100, (value) => `${value} %`);
  const level = knob("Level", 0, 100, 50, (value) => `${value} %`);
  const caption = make("figcaption", {});
  let mapAllowed = true;
  let label = "";

  const windowed = () => {
    const slope = 100 / width.value();
    return { slope, intercept: 0.5 - (slope * level.value()) / 100 };
  };
  const lay = () => {
    layer.hidden = opacity.element.hidden = caption.hidden = !mapAllowed;
    caption.textContent = mapAllowed && label ? `Bright: speaks for ${words(label)}` : "";
    layer.style.opacity = opacity.value() / 100;
    layers.style.width = `${zoom.value()}%`;
    const { slope, intercept } = windowed();
    for (const part of parts) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", intercept);
    }
    picture.style.filter = slope === 1 && intercept === 0 ? "" : `url(#${id})`;
  };
  const knobs = [opacity, zoom, width, level];
  for (const each of knobs) each.onchange = lay;
  const reset = button("Reset", () => [zoom, width, level].forEach((each) => each.reset()));
  const display = make(
    "details", { className: "soft" },
    make("summary", {}, "Zoom, window and level"),
    zoom.element, width.element, level.element,
    make("p", {}, "Of the display only: the answer is for the picture as it was read. ", reset),
  );

  const several = scan.slices.length > 1;
  const chart = several ? make("div", { className: "chart" }) : null;
  const slices = several ? knob("Slice", 1, scan.slices.length, scan.current + 1, (n) => `${n} of ${scan.slices.length}`) : null;
  const view = {
    element: make(
      "figure", {}, frame, draw("svg", { width: 0, height: 0, "aria-hidden": "true" }, filter),
      slices?.element ?? null, chart, opacity.element, caption, display,
    ),
    opacity: () => (mapAllowed ? opacity.value() / 100 : 0),
    window: windowed,
    allowMap(allowed) {
      mapAllowed = allowed;
      lay();
    },
    point(index) {
      slices?.set(index + 1);
      chart?.style.setProperty("--at", index / Math.max(scan.slices.length - 1, 1));
    },
    blank() {
      picture.removeAttribute("src");
      layer.removeAttribute("src");
      view.allowMap(false);
    },
    show(slice, result) {
      picture.src = slice.picture.picture;
      picture.alt = `The scan ${result.name}${several ? `, ${scan.place(scan.current)}` : ""}`;
      layer.src = slice.picture.overlay;
      label = result.label;
      view.allowMap(result.state === "answer" || result.state === "unsure");
    },
    /** Ask for all slices that have no answer yet, and draw the probabilities of each class by slice. */
    async probabilities() {
      const missing = scan.slices.find((slice) => !slice.result);
      chart.textContent = missing ? "The other slices are being read" : "";
      try {
        if (missing) scan.learn(await ask(missing.file, { slice: "all" }));
        chart.replaceChildren(...lines(scan.slices, Object.keys(scan.result.probabilities)));
      } catch (error) {
        chart.textContent = `No probabilities by slice: ${error.message}`;
      }
    },
  };
  if (slices) slices.onchange = () => view.onslice(slices.value() - 1);
  lay();
  return view;
}

/** A slider with its label and its value in words. */
function knob(text, min, max, initial, inWords) {
  const input = make("input", { type: "range", min, max, value: initial });
  const shown = make("span", { ariaHidden: "true" }); // the slider tells its value itself
  const made = {
    element: make("label", { className: "knob" }, text, input, shown),
    value: () => Number(input.value),
    set(value) {
      input.value = value;
      input.setAttribute("aria-valuetext", inWords(value));
      shown.textContent = inWords(value);
    },
    reset() {
      made.set(initial);
      made.onchange?.();
    },
  };
  made.set(initial);
  input.addEventListener("input", () => {
    made.set(made.value());
    made.onchange?.();
  });
  return made;
}

/** Lines of the probabilities by slice, broken where the network gives no answer, and which line is which class. */
function lines(slices, classes) {
  const last = Math.max(slices.length - 1, 1);
  const chart = draw("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": "Probability of each class by slice" });
  const key = make("ul", { className: "key" });
  classes.forEach((name, i) => {
    const colour = `line-${i % COLOURS}`;
    const points = slices.map(({ result }, at) =>
      result && result.state !== "no answer" ? `${(100 * at) / last},${100 - 100 * result.probabilities[name]}` : "",
    );
    for (const run of points.join(" ").split(/ {2,}/).map((part) => part.trim()).filter(Boolean)) {
      const [first] = run.split(" ");
      chart.append(draw("polyline", { class: colour, points: run.includes(" ") ? run : `${first} ${first}` }));
    }
    key.append(make("li", {}, make("span", { className: colour, ariaHidden: "true" }), words(name)));
  });
  const count = slices.filter(({ result }) => result?.state === "no answer").length;
  const gaps = count ? [make("p", {}, `No answer for ${count} of ${slices.length} slices: gaps in the lines.`)] : [];
  return [make("div", { className: "lines" }, chart), key, ...gaps];
}
