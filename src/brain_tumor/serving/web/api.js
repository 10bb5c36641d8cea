const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

document.getElementById("origin").textContent = location.origin;
SwaggerUIBundle({
  dom_id: "#api",
  url: "openapi.json",
  plugins: [{ wrapComponents: { InfoContainer: () => () => null } }], // the page has a title of its own
});

// What Swagger UI leaves out for readers with a keyboard or a screen reader.
const named = [
  ["select:not([aria-label])", (element) => element.setAttribute("aria-label", element.closest("[data-param-name]")?.dataset.paramName ?? "media type")],
  ["pre:not([tabindex])", (element) => (element.tabIndex = 0)],
  ["[role=region][id$=_responses]", (element) => element.removeAttribute("role")],
];
new MutationObserver(() => {
  for (const [selector, mend] of named) document.querySelectorAll(selector).forEach(mend);
}).observe(document.getElementById("api"), { childList: true, subtree: true });
