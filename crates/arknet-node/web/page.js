// The few ways in which the page is changed. All of them set text.

import { groups } from "./words.js";

export const byId = (id) => document.getElementById(id);

/// Sets a text, and leaves alone what says it already: a reader's selection stays.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/// Sets the fields of a card by name.
export function fill(root, fields) {
  for (const [name, text] of Object.entries(fields)) {
    for (const element of root.querySelectorAll(`[data-field=${name}]`)) setText(element, text);
  }
}

/// Shows a fingerprint in groups, each an element of its own: eyes and screen readers stop between.
export function fillPrint(element, fingerprint) {
  if (element.dataset.print === fingerprint) return;
  element.dataset.print = fingerprint;
  element.replaceChildren(
    ...groups(fingerprint).flatMap((group) => {
      const span = document.createElement("span");
      span.textContent = group;
      return [span, " "];
    }),
  );
}
