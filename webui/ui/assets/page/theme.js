// Light or dark: the system's, until one is chosen.

const STORED = "easel.theme";

/** Makes the button switch between light and dark. */
export function startTheme(toggle) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const draw = () => {
    const chosen = localStorage.getItem(STORED);
    const dark = chosen ? chosen === "dark" : system.matches;
    document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
  };
  toggle.addEventListener("click", () => {
    localStorage.setItem(STORED, document.body.classList.contains("dark") ? "light" : "dark");
    draw();
  });
  system.addEventListener("change", draw);
  draw();
}
