// From what was chosen, dropped or pasted to files with their paths.

const SUFFIXES = /\.(bmp|jpe?g|pgm|png|tiff?|webp|dcm|dicom|nii|nii\.gz)$/i;

/** Files that were chosen or pasted: {file, path}. */
export const named = (files) => [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

/** Files and the content of folders that were dropped. Must be called in the event, which empties its items after. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return { files: named(transfer.files), folder: false };
  const found = await Promise.all(entries.filter(Boolean).map(inside));
  return { files: found.flat(), folder: true };
}

async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // it hands out a hundred at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(inside))).flat();
}

/** Of the files of a folder, those that may be scans, as the command line chooses them; in the order of their paths. */
export async function candidates(files) {
  const kept = await Promise.all(files.map(async ({ file, path }) => {
    if (path.split("/").some((part) => part.startsWith(".")) || file.name === "DICOMDIR") return false;
    if (SUFFIXES.test(file.name)) return true;
    return (await file.slice(128, 132).text().catch(() => "")) === "DICM";
  }));
  return files.filter((_, i) => kept[i]).sort((a, b) => (a.path < b.path ? -1 : 1));
}
