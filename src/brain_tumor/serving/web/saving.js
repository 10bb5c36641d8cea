// Answers and pictures to take away.

import { save, words } from "./elements.js";

/** The answers for all slices that were asked for, as the server gave them, with paths; of a failed file its error. */
export function answers(scans) {
  return scans.flatMap((scan) =>
    scan.state === "failed"
      ? [{ name: scan.path, error: scan.note }]
      : scan.slices.flatMap(({ result }) => (result ? [result] : [])),
  );
}

export function saveJson(scans, model) {
  const text = JSON.stringify({ model: model.sha256, results: answers(scans) }, null, 2);
  save(new Blob([`${text}\n`], { type: "application/json" }), "answers.json");
}

/** The table of `brain-tumor predict --csv`. */
export function saveCsv(scans, model) {
  const { sha256 = "" } = model;
  const told = answers(scans);
  const some = told.find((said) => !said.error);
  const [classes, levels] = [some?.probabilities, some?.prediction_sets].map((each) => Object.keys(each ?? {}));
  const header = ["file", "slice", "state", "label", "likely", "abstained", "reasons", "novelty"];
  header.push(...classes.map((name) => `p_${name}`), ...levels.map((level) => `set_${level}`), "error", "model");
  const rows = told.map((said) =>
    said.error
      ? [said.name, ...Array(header.length - 3).fill(""), said.error, sha256]
      : [
          said.name, said.slice ?? "", said.state, said.label, said.likely.join("; "), said.abstained,
          said.reasons.join("; "), said.novelty, ...classes.map((name) => said.probabilities[name]),
          ...levels.map((level) => said.prediction_sets[level].join("; ")), "", sha256,
        ],
  );
  const text = [header, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
  save(new Blob([text], { type: "text/csv" }), "answers.csv");
}

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The verdict in words: one line, and the reasons where there is no answer. */
export function verdict({ state, label, likely, probabilities }) {
  const probable = (name) => `${words(name)} ${probabilities[name].toFixed(3)}`;
  if (state === "answer") return probable(label);
  return state === "unsure" ? `unsure: ${likely.map(probable).join(" or ")}` : "no answer";
}

/** An answer as text, for a note or a message. */
export function asText(result, place, model) {
  const sets = Object.entries(result.prediction_sets).map(
    ([level, names]) => `${level} % set: ${names.map(words).join(", ") || "empty"}`,
  );
  return [
    [result.name, place].filter(Boolean).join(", "),
    verdict(result),
    ...result.reasons,
    `${sets.join("; ")}; novelty ${result.novelty.toFixed(2)}`,
    `Classifier ${model.sha256}. Research use only, no diagnosis may rest on it.`,
  ].join("\n");
}

/** A PNG of the picture as it is shown, its map where `opacity` is above 0, and lines of text below. */
export async function savePicture({ picture, overlay, opacity, window, lines, name }) {
  const [scan, map] = await Promise.all([picture, overlay].map(decoded));
  const scale = Math.max(1, 512 / Math.max(scan.naturalWidth, scan.naturalHeight));
  const [width, height] = [scan.naturalWidth, scan.naturalHeight].map((edge) => Math.round(edge * scale));
  const wide = Math.max(width, 420);
  const canvas = Object.assign(document.createElement("canvas"), { width: wide, height: height + 24 * lines.length + 14 });
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(scan, 0, 0, width, height);
  const seen = context.getImageData(0, 0, width, height);
  for (let i = 0; i < seen.data.length; i += 1) {
    if (i % 4 < 3) seen.data[i] = seen.data[i] * window.slope + 255 * window.intercept; // clamped by its type
  }
  context.putImageData(seen, 0, 0);
  context.globalAlpha = opacity;
  if (opacity > 0) context.drawImage(map, 0, 0, width, height);
  context.globalAlpha = 1;
  Object.assign(context, { fillStyle: "#fff", font: "15px system-ui, sans-serif" });
  lines.forEach((line, i) => context.fillText(line, 8, height + 24 * (i + 1), wide - 16));
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  save(blob, name);
}

async function decoded(source) {
  const image = Object.assign(new Image(), { src: source });
  await image.decode();
  return image;
}
