/** The alignment of a translation: curves from the text to the answer, a map, and words. */
import { make, part, percent, shade, visible } from "./parts.js";

/** More columns carry no percent, and have no curves. */
const MOST_COLUMNS = 24;

/** Shares in words. */
const MOST_NAMED = 3;

const isSpace = (point) => /^\p{White_Space}$/u.test(point);

/**
 * Returns the pieces of a text: code points, or what stands between whitespace.
 *
 * @returns {{text: string, places: number[]}[]}  With the places of their code points.
 */
function piecesOf(text, tokenizer) {
  const points = [...text];
  if (tokenizer === "character") return points.map((point, place) => ({ text: point, places: [place] }));
  const pieces = [];
  let isInside = false;
  points.forEach((point, place) => {
    if (isSpace(point)) isInside = false;
    else if (isInside) {
      pieces.at(-1).text += point;
      pieces.at(-1).places.push(place);
    } else {
      pieces.push({ text: point, places: [place] });
      isInside = true;
    }
  });
  return pieces;
}

/**
 * Returns the pieces of both sides, and how the rows of the answer's pieces are shared out
 * among those of the text: the mean of its code points' rows, the sum of their columns.
 */
export function attentionOf({ source, text, alignment }, manifest) {
  const sources = piecesOf(source, manifest.source?.tokenizer);
  const targets = piecesOf(text, manifest.target?.tokenizer);
  const weights = targets.map(({ places }) =>
    sources.map((one) => {
      let sum = 0;
      for (const row of places) for (const column of one.places) sum += alignment[row][column];
      return sum / places.length;
    }),
  );
  return { sources: sources.map((one) => visible(one.text)), targets: targets.map((one) => visible(one.text)), weights };
}

/** Shows the attention of one translation after the other. */
export class AttentionView {
  #shown = { sources: [], targets: [], weights: [] };
  #paths = [];
  #place = { row: 1, column: 1 };
  #pointed = { row: 0, column: 0 };

  constructor() {
    this.map = part("map");
    this.ribbon = part("ribbon");
    this.readout = part("readout");
    const pointed = (event) => this.#placeOf(event.target.closest("th, tbody td"));
    this.map.addEventListener("pointerover", (event) => this.#point(pointed(event)));
    this.map.addEventListener("pointerleave", () => this.#point(null));
    this.map.addEventListener("focusin", (event) => this.#focus(pointed(event)));
    this.map.addEventListener("focusout", () => this.#point(null));
    this.map.addEventListener("keydown", (event) => this.#moveByKey(event));
    this.ribbon.addEventListener("pointerover", (event) => this.#pointAtPiece(event.target.closest(".piece")));
    this.ribbon.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.#drawCurves()).observe(this.ribbon);
  }

  show(attention) {
    this.#shown = attention;
    const { sources, targets } = attention;
    part("attention").hidden = !sources.length || !targets.length;
    this.#fillRibbon();
    this.#fillMap();
    this.#fillWords();
    this.#point(null);
    this.#drawCurves();
  }

  /* The ribbon. */

  #fillRibbon() {
    const { sources, targets } = this.#shown;
    this.ribbon.parentElement.hidden = Math.max(sources.length, targets.length) > MOST_COLUMNS;
    const row = (side, texts) =>
      make("div", { className: `pieces ${side}` }, ...texts.map((text) => make("bdi", { className: "piece symbol", textContent: text })));
    this.ribbon.replaceChildren(row("source", sources), row("target", targets));
    this.#paths = [];
  }

  #drawCurves() {
    const [above, below] = [...this.ribbon.children].filter((one) => one.matches(".pieces"));
    this.ribbon.querySelector("svg")?.remove();
    this.#paths = [];
    if (!above || this.ribbon.parentElement.hidden) return;
    const name = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(name, "svg");
    const middle = (piece, row) => row.offsetLeft + piece.offsetLeft + piece.offsetWidth / 2;
    const [top, bottom] = [above.offsetTop + above.offsetHeight, below.offsetTop];
    this.#paths = this.#shown.weights.map((weights, row) =>
      weights.map((weight, column) => {
        if (shade(weight) === 0) return null;
        const path = document.createElementNS(name, "path");
        const [from, to] = [middle(above.children[column], above), middle(below.children[row], below)];
        const half = (top + bottom) / 2;
        path.setAttribute("d", `M${from} ${top}C${from} ${half} ${to} ${half} ${to} ${bottom}`);
        path.setAttribute("stroke-width", 1 + 7 * weight);
        drawing.append(path);
        return path;
      }),
    );
    this.ribbon.append(drawing);
    this.#paintCurves();
  }

  /* The map. */

  #fillMap() {
    const { sources, targets, weights } = this.#shown;
    this.map.classList.toggle("dense", sources.length > MOST_COLUMNS);
    const label = (text) => make("bdi", { className: "symbol", textContent: text });
    const head = (scope, text) => make("th", { scope, tabIndex: -1 }, label(text));
    const cell = (weight) => make("td", { className: shade(weight) ? `s${shade(weight)}` : "", tabIndex: -1, textContent: Math.round(100 * weight) });
    this.map.tHead.replaceChildren(make("tr", {}, make("td"), ...sources.map((one) => head("col", one))));
    this.map.tBodies[0].replaceChildren(
      ...targets.map((one, row) => make("tr", {}, head("row", one), ...weights[row].map(cell))),
    );
    this.#place = { row: Math.min(this.#place.row, targets.length), column: Math.min(this.#place.column, sources.length) };
    const first = targets.length && this.#cellAt(this.#place);
    if (first) first.tabIndex = 0;
  }

  /* Row 0 and column 0 are the edges: the pieces of the text and of the answer. */
  #placeOf(cell) {
    return cell && { row: cell.parentElement.rowIndex, column: cell.cellIndex };
  }

  #cellAt({ row, column }) {
    return this.map.rows[row]?.cells[column];
  }

  #focus(place) {
    const before = this.#cellAt(this.#place);
    if (before) before.tabIndex = -1;
    this.#place = place;
    this.#cellAt(place).tabIndex = 0;
    this.#point(place);
  }

  #moveByKey(event) {
    const { row, column } = this.#place;
    const [rows, columns] = [this.#shown.targets.length, this.#shown.sources.length];
    const moves = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [event.ctrlKey ? 1 : row, 1], End: [event.ctrlKey ? rows : row, columns],
    };
    const [newRow, newColumn] = moves[event.key] ?? [];
    if (newRow === undefined) return;
    event.preventDefault();
    const to = { row: Math.max(0, Math.min(rows, newRow)), column: Math.max(0, Math.min(columns, newColumn)) };
    if (to.row || to.column) this.#cellAt(to).focus();
  }

  #fillWords() {
    const { targets } = this.#shown;
    part("words").replaceChildren(...targets.map((_, row) => make("li", {}, ...this.#comesFrom(row))));
  }

  /* What is pointed at. */

  #pointAtPiece(piece) {
    if (!piece) return;
    const place = 1 + [...piece.parentElement.children].indexOf(piece);
    this.#point(piece.parentElement.matches(".source") ? { row: 0, column: place } : { row: place, column: 0 });
  }

  /* Row or column 0: the whole column or row; both: nothing is pointed at. */
  #point(place) {
    this.#pointed = { row: 0, column: 0, ...place };
    const { row, column } = this.#pointed;
    this.#light(row, column);
    this.#paintCurves();
    this.readout.replaceChildren(...this.#words(row, column));
  }

  #paintCurves() {
    const { row, column } = this.#pointed;
    this.#paths.forEach((paths, target) =>
      paths.forEach((path, source) => {
        const isFaint = (row && target !== row - 1) || (column && source !== column - 1);
        path?.setAttribute("stroke-opacity", isFaint ? 0.04 : 0.12 + 0.78 * this.#shown.weights[target][source]);
      }),
    );
  }

  #light(row, column) {
    for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
    const [above, below] = this.ribbon.children;
    const light = (element) => element?.classList.add("lit");
    if (row) [this.#cellAt({ row, column: 0 }), below?.children[row - 1]].forEach(light);
    if (column) [this.#cellAt({ row: 0, column }), above?.children[column - 1]].forEach(light);
    if (row && column) light(this.#cellAt({ row, column }));
  }

  #words(row, column) {
    const { sources, targets, weights } = this.#shown;
    const name = (text) => make("b", {}, make("bdi", { className: "symbol", textContent: text }));
    if (row && column) return [name(targets[row - 1]), " comes from ", name(sources[column - 1]), ` by ${percent(weights[row - 1][column - 1])}.`];
    if (row) return [...this.#comesFrom(row - 1), "."];
    if (column) return [name(sources[column - 1]), " goes into ", ...largest(weights.map((one) => one[column - 1]), targets), "."];
    return [make("span", { className: "quiet", textContent: "Point at a letter, or at a piece of the answer." })];
  }

  #comesFrom(row) {
    const { sources, targets, weights } = this.#shown;
    return [make("b", {}, make("bdi", { className: "symbol", textContent: targets[row] })), " comes from ", ...largest(weights[row], sources)];
  }
}

/** The largest shares as text and pieces: "t 81 %, a 12 %". */
function largest(shares, labels) {
  const places = shares.map((_, place) => place).sort((one, other) => shares[other] - shares[one]);
  const named = places.filter((place, rank) => rank === 0 || (rank < MOST_NAMED && shares[place] >= 0.01));
  return named.flatMap((place, rank) => [rank ? ", " : "", make("bdi", { className: "symbol", textContent: labels[place] }), ` ${percent(shares[place])}`]);
}
