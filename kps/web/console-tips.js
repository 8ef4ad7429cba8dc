// Shows names in full that have no room, to those who point at them or come to them with the keyboard. Those who hear the page
// hear them in full anyway, so a tip is only for the eye.

const MARGIN = 6; // pixels between a name and its tip, and around it

const tip = document.createElement('div');
tip.id = 'tip';
tip.popover = 'manual'; // above everything, dialogs too
tip.ariaHidden = true;

/** The name within `element`, or around it, that is cut off. */
function cutName(element) {
  const found = element.closest?.('.alien') ?? element.querySelector?.('.alien');
  const isCut = found && (found.scrollWidth > found.clientWidth || (found.fullName ?? '').length > found.textContent.length);
  return isCut ? found : undefined;
}

let named; // whose name the tip shows

function show(name) {
  named = name;
  tip.textContent = name.fullName ?? name.textContent;
  if (!tip.isConnected) document.body.append(tip);
  if (!tip.matches(':popover-open')) tip.showPopover();
  place(name);
}

function place(name) {
  const box = name.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const isBelow = box.bottom + MARGIN + height <= innerHeight;
  tip.style.left = `${Math.max(MARGIN, Math.min(box.left, innerWidth - width - MARGIN))}px`;
  tip.style.top = `${isBelow ? box.bottom + MARGIN : Math.max(MARGIN, box.top - MARGIN - height)}px`;
}

function hide() {
  named = undefined;
  if (tip.isConnected && tip.matches(':popover-open')) tip.hidePopover();
}

/** Show tips from now on. */
export function showTips() {
  for (const event of ['pointerover', 'focusin']) {
    document.addEventListener(event, ({ target }) => {
      const name = event === 'focusin' && !target.matches(':focus-visible') ? undefined : cutName(target);
      if (name) show(name);
      else hide();
    });
  }
  for (const event of ['focusout', 'pointerdown']) document.addEventListener(event, hide);
  // What comes into view because it has the focus keeps its tip; the pointer is somewhere else now.
  const follow = () => (named && document.activeElement?.contains(named) ? place(named) : hide());
  document.addEventListener('scroll', follow, { capture: true, passive: true });
  document.addEventListener('keydown', ({ key }) => key === 'Escape' && hide());
}
