// The page's own keys: Ctrl+Enter generates, Esc stops.

/** Listens for them wherever the focus is. */
export function listenToKeys(root, job, places) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !root.querySelector("dialog[open]")) {
      event.preventDefault();
      places.go("create");
      job.generate();
    }
    if (event.key === "Escape" && !root.querySelector("dialog[open]")) job.stop();
  });
}
