// What is asked of the server.

const TRIES = 5; // further ones, while the server is busy
const LONGEST_WAIT = 30; // seconds between two tries, whatever is asked for
const SCANS = "What is read: JPEG, PNG, TIFF, BMP, WebP, PGM, DICOM and NIfTI.";

/** A failed request: what to tell the user, and whether another try may succeed. */
export class Failed extends Error {
  constructor(text, again) {
    super(text);
    this.again = again;
  }
}

/**
 * The server's answers for the slices of a file; while it is busy, waits as long as it asks and sends again.
 * say(text) is told what is being done. Throws Failed.
 */
export async function ask(file, { slice = "middle", explain = false } = {}, say = () => {}) {
  let response, told;
  try {
    response = await send(file, `v1/predict?slice=${slice}${explain ? "&explain=true" : ""}`, say);
    told = await response.json().catch(() => ({})); // a proxy in between answers in its own way
  } catch {
    throw new Failed("Could not be sent: the server cannot be reached, or the file cannot be read.", true);
  }
  const { ok, status } = response;
  if (ok && told.results?.length) return told.results;
  const text = (told.detail ?? `the server answered with status ${status}`).replace(/\.?$/, ".");
  const again = !(status >= 400 && status < 500) || status === 408 || status === 429; // not where the file is at fault
  throw new Failed(status === 422 ? `${text} ${SCANS}` : text, again);
}

async function send(file, address, say) {
  for (let tries = 0; ; tries += 1) {
    say("being read");
    const form = new FormData();
    form.append("files", file);
    const response = await fetch(address, { method: "POST", body: form });
    if (response.status !== 503 || tries === TRIES) return response;
    const asked = Number.parseFloat(response.headers.get("Retry-After"));
    const seconds = Math.min(Number.isFinite(asked) ? Math.max(asked, 0) : 1, LONGEST_WAIT);
    say(`The server is busy: trying again in ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

/** Facts about the classifier; none if the server cannot be reached. */
export async function model() {
  const response = await fetch("v1/model").catch(() => null);
  return response?.ok ? response.json() : {};
}
