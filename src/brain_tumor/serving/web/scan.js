// A scan: a picture, a volume or a series, with the answers for its slices.

const PICTURES = 24; // of slices that are kept at a time: each is some 200 kB of text

let made = 0;

export class Scan {
  constructor(file, path) {
    this.id = (made += 1);
    this.path = path;
    this.state = "waiting"; // or reading, done, failed
    this.note = "waiting for its turn";
    this.slices = [{ file, path }]; // of a volume also number; where known result; of a series position
    this.current = 0; // the slice that is shown
  }

  get file() {
    return this.slices[0].file;
  }

  /** Take the first answers for a file, which are those of one slice, or of the middle of a volume. */
  take(results) {
    const [{ slices, series = "", position = null }] = results;
    const [{ file, path }] = this.slices;
    if (slices) this.slices = Array.from({ length: slices }, (_, number) => ({ file, path, number }));
    this.series = series;
    this.slices[0].position = position;
    this.learn(results);
    this.current = this.middle = slices ? results[results.length >> 1].slice : 0;
    this.state = "done";
  }

  /** Keep answers for slices of the file: the pictures of the latest, and everything else. */
  learn(results) {
    for (const result of results) {
      const slice = this.slices[result.slice ?? 0];
      this.keep(slice, result);
    }
  }

  keep(slice, { map, picture, overlay, ...result }) {
    slice.result = { ...result, name: slice.path }; // forms escape quotes in names
    if (picture) slice.picture = { picture, overlay };
    const drawn = this.slices.filter((each) => each.picture);
    if (drawn.length > PICTURES) delete drawn.find((each) => each !== slice).picture;
  }

  /** Take over the slices of another file of the same series. */
  merge(other) {
    this.slices.push(...other.slices);
    this.slices.sort((a, b) => a.position - b.position || (a.path < b.path ? -1 : 1));
    this.current = this.middle = this.slices.length >> 1;
    const parts = this.slices.map(({ path }) => path.split("/").slice(0, -1).join("/"));
    const folder = parts.every((part) => part === parts[0]) ? parts[0] : "";
    this.path = `${folder || this.slices[0].path} (series of ${this.slices.length})`;
  }

  forgetPictures() {
    for (const slice of this.slices) delete slice.picture;
  }

  /** The answer that stands for the scan: that of its middle slice. */
  get result() {
    return this.slices[this.middle]?.result;
  }

  /** What the scan counts as: a class, or why it has none. */
  get kind() {
    if (this.state !== "done") return this.state;
    return this.result.state === "answer" ? this.result.label : this.result.state;
  }

  place(index) {
    return this.slices.length > 1 ? `slice ${index + 1} of ${this.slices.length}` : "";
  }
}
