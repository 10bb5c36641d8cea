// Elements of the page. What comes from files is put in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** The name of a class as a person writes it. */
export const words = (name) => name.replaceAll("_", " ");

/** An element with properties and children; strings among these become text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The same for SVG, with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function button(text, action, more = {}) {
  const made = make("button", { className: "button quiet", type: "button", ...more }, text);
  made.addEventListener("click", action);
  return made;
}

/** Hand a file to the user. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
