// Files dropped anywhere on the page, shown by `is-over` on the root while they hang above it.

export function takeDrops(root, take) {
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    root.classList.add("is-over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    root.classList.toggle("is-over", depth > 0);
  });
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    root.classList.remove("is-over");
    take(event.dataTransfer);
  });
}

// A label is no button for the keyboard; the field itself is hidden, so its label shows the focus.
export function showFocus(label) {
  const field = document.getElementById(label.htmlFor);
  field.addEventListener("focus", () => label.classList.toggle("is-focused", field.matches(":focus-visible")));
  field.addEventListener("blur", () => label.classList.remove("is-focused"));
}
