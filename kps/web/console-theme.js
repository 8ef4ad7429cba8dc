// Light or dark, as the system or its user wants it.

import { byId, stored } from './console-view.js';

const KEY = 'kps-theme';

/** Let the user choose, and remember the choice. */
export function offerThemes() {
  const choice = byId('theme');
  const show = (theme) => {
    choice.value = theme;
    document.documentElement.dataset.theme = choice.value;
  };
  show([...choice.options].map(({ value }) => value).find((value) => value === stored('localStorage', KEY)) ?? 'system');
  choice.addEventListener('change', () => {
    stored('localStorage', KEY, choice.value);
    show(choice.value);
  });
}
