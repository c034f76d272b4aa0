// Runs before anything is painted, so that a chosen theme never flashes in the other one. No module: those come later.

try {
  const theme = localStorage.getItem("ghub-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows what its system prefers.
}
