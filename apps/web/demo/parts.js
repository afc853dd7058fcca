/** Elements, numbers and words, of which the page is made. */

export const part = (name) => document.querySelector(`[data-part="${name}"]`);

/** An element with properties, or attributes where there is no such property. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** With a real minus sign, and none before 0. */
export const number = (value, digits = 2) =>
  value.toFixed(digits).replace(/^-(?=.*[1-9])/, "\u2212").replace(/^-/, "");

export const percent = (share) => {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "under 0.1\u00a0%";
  return `${number(value, value && value < 9.95 ? 1 : 0)}\u00a0%`;
};

/** A size as people read it. */
export const size = (bytes) =>
  bytes < 1e6 ? `${Math.ceil(bytes / 1000)}\u00a0kB` : `${number(bytes / 1e6, 1)}\u00a0MB`;

/** The shade of a cell, 0 to 9; the root, so that small shares show. 0 where 0 % is shown. */
export const shade = (share) => (share < 0.005 ? 0 : Math.max(1, Math.round(9 * Math.sqrt(Math.min(share, 1)))));

const MARKS = { " ": "\u2423", "\t": "\u21e5", "\n": "\u21b5", "\u00a0": "\u237d" };

/** A symbol that can be seen by itself: spaces get a sign, a mark a circle to stand on. */
export const visible = (symbol) => {
  if (symbol in MARKS) return MARKS[symbol];
  if (/^\p{M}/u.test(symbol)) return `\u25cc${symbol}`;
  if (/^[\p{C}\p{Z}]$/u.test(symbol)) return `U+${symbol.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return symbol;
};
