// Light, dark, or as the system has it. A classic script that runs before the first paint, so that a
// chosen theme never flashes the other one; the button is wired once the document is there.
(() => {
  const KEY = 'switchboard.theme';
  const THEMES = ['system', 'light', 'dark'];
  let theme = 'system';
  try {
    const kept = localStorage.getItem(KEY);
    if (THEMES.includes(kept)) theme = kept;
  } catch { /* storage may be forbidden; the system's theme will do */ }

  function apply() {
    const root = document.documentElement;
    if (theme === 'system') delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.querySelector('#theme');
    if (!button) return;
    button.dataset.shows = theme;
    button.title = `Theme: ${theme}`;
    button.querySelector('.spoken').textContent = `Theme: ${theme}. Change it.`;
  }

  apply();
  document.addEventListener('DOMContentLoaded', () => {
    apply();
    document.querySelector('#theme').addEventListener('click', () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch { /* it holds until the page is closed */ }
      apply();
    });
  });
})();
