/* Steps, hovering, keys and the scale; without it the page is tables, all of them shown. */

/* One model on the page: its map, its ribbon of tokens, and the stages of a step. */
class View {
  constructor(root, data, goTo) {
    Object.assign(this, { root, data, goTo, step: 0, chosen: 0, first: 0, look: null });
    this.sources = data.source_labels;
    this.targets = data.target_labels;
    this.own = data.weights || [];
    this.isEven = data.form === "run" && !data.similarities;
    this.weights = this.own;
    this.factor = data.scale === null || data.scale === undefined ? 1 : data.scale;
    this.ownFactor = this.factor;
    this.map = this.part("map");
    if (this.map) this.prepareMap();
    if (this.own.length) this.prepareRibbon();
    if (this.part("panel")) this.preparePanel();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  show(step) {
    this.step = Math.min(step, Math.max(this.targets.length - 1, 0));
    this.isOver = step >= this.targets.length;
    if (this.own.length) this.chosen = this.own[this.step].indexOf(Math.max(...this.own[this.step]));
    this.scrollTo(this.step);
    this.paint();
    this.fillPanel();
    if (this.own.length) this.scrollAlong();
  }

  /* Keeps what belongs to the step in sight, inside the boxes that scroll by themselves. */
  scrollAlong() {
    reveal(this.targetChips[this.step]);
    reveal(this.sourceChips[this.chosen]);
    if (this.pairs) reveal(this.pairs[this.chosen].row, this.root.querySelector(".pairs-box"), this.root.querySelector(".pairs thead").offsetHeight);
  }

  /* What is pointed at: a target and a source place, either of which may be null. */
  pointAt(target, source) {
    this.look = target === null && source === null ? null : { target, source };
    this.paint();
  }

  column(source) {
    return this.weights.map((row) => row[source]);
  }

  /* The map. */

  prepareMap() {
    this.rows = [...this.map.tBodies[0].rows];
    this.heads = [...this.map.tHead.rows[0].cells].slice(1);
    this.map.setAttribute("role", "grid");
    this.map.setAttribute("aria-rowcount", this.targets.length + 1);
    this.map.closest(".map-box").removeAttribute("tabindex");
    this.part("readout").hidden = this.part("keys").hidden = false;
    for (const cell of this.map.querySelectorAll("th, tbody td")) cell.tabIndex = -1;
    this.place = { row: 1, column: 1 };
    this.cellAt(this.place).tabIndex = 0;
    const pointed = (event) => this.placeOf(event.target.closest("th, tbody td"));
    this.map.addEventListener("pointerover", (event) => this.pointAtCell(pointed(event)));
    this.map.addEventListener("pointerleave", () => this.pointAt(null, null));
    this.map.addEventListener("focusin", (event) => this.focusCell(pointed(event)));
    this.map.addEventListener("focusout", () => this.pointAt(null, null));
    this.map.addEventListener("click", (event) => this.chooseCell(pointed(event)));
    this.map.addEventListener("keydown", (event) => this.moveByKey(event));
  }

  /* Row 0 and column 0 are the edges: the source and the target tokens. */
  placeOf(cell) {
    return cell && { row: cell.parentElement.rowIndex, column: cell.cellIndex };
  }

  cellAt({ row, column }) {
    return this.map.rows[row].cells[column];
  }

  targetAt(place) {
    return place.row ? this.first + place.row - 1 : null;
  }

  pointAtCell(place) {
    if (place) this.pointAt(this.targetAt(place), place.column ? place.column - 1 : null);
  }

  focusCell(place) {
    this.cellAt(this.place).tabIndex = -1;
    this.place = place;
    this.cellAt(place).tabIndex = 0;
    this.pointAtCell(place);
  }

  chooseCell(place) {
    if (!place || !place.row) return;
    const target = this.targetAt(place);
    this.goTo(target);
    if (place.column) this.choose(place.column - 1);
  }

  moveByKey(event) {
    const all = this.targets.length;
    const wide = this.sources.length;
    const moves = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-10, 0], PageDown: [10, 0],
      ArrowLeft: [0, -1], ArrowRight: [0, 1],
      Home: [event.ctrlKey ? -all : 0, 1 - this.place.column], End: [event.ctrlKey ? all : 0, wide],
    };
    if (event.key === "Enter" || event.key === " ") this.chooseCell(this.place);
    else if (event.key in moves) this.move(...moves[event.key]);
    else return;
    event.preventDefault();
  }

  move(rows, columns) {
    const column = Math.max(0, Math.min(this.sources.length, this.place.column + columns));
    const last = this.rows.length;
    let row = this.place.row + rows;
    // Past the rows that are shown, the map goes on with others.
    if (row > last) row -= this.shift(row - last);
    if (rows < 0 && row < 1) row -= this.shift(row - 1);
    const least = column && (rows === -1 || !this.place.row) ? 0 : 1;
    this.cellAt({ row: Math.max(least, Math.min(last, row)), column }).focus();
  }

  shift(rows) {
    const before = this.first;
    this.first = Math.max(0, Math.min(this.targets.length - this.rows.length, this.first + rows));
    this.paint();
    return this.first - before;
  }

  scrollTo(step) {
    if (!this.map) return;
    const count = this.rows.length;
    if (step < this.first || step >= this.first + count) {
      this.first = Math.max(0, Math.min(this.targets.length - count, step - Math.floor(count / 2)));
    }
    const box = this.map.closest(".map-box");
    reveal(this.rows[step - this.first], box, this.map.tHead.offsetHeight);
    const head = this.heads[this.chosen];
    const left = head.offsetLeft - this.rows[0].cells[0].offsetWidth;
    const right = head.offsetLeft + head.offsetWidth - box.clientWidth;
    box.scrollLeft = Math.max(right, Math.min(left, box.scrollLeft));
  }

  /* Brings everything that shows weights to the state of this view. */
  paint() {
    if (!this.own.length) return;
    const look = this.look || { target: this.isOver ? null : this.step, source: null };
    if (this.map) this.paintMap(look);
    if (this.map) this.paintReadout(look);
    this.paintRibbon(look);
  }

  paintMap(look) {
    const isOwn = this.weights === this.own && this.first === 0;
    if (!isOwn || this.isRepainted) this.fillMap();
    this.isRepainted = !isOwn;
    this.map.querySelectorAll(".lit").forEach((cell) => cell.classList.remove("lit"));
    this.rows.forEach((row, slot) => row.classList.toggle("now", this.first + slot === this.step && !this.isOver));
    if (!this.look) return;
    const row = look.target === null ? null : this.rows[look.target - this.first];
    if (look.source !== null) this.heads[look.source].classList.add("lit");
    if (row) row.cells[0].classList.add("lit");
    if (row && look.source !== null) row.cells[look.source + 1].classList.add("lit");
    // One that points at a token only lights up what belongs to it.
    if (row && look.source === null) this.light(this.weights[look.target], (place) => [this.heads[place], row.cells[place + 1]]);
    if (!row && look.source !== null) {
      const shown = this.column(look.source).slice(this.first, this.first + this.rows.length);
      this.light(shown, (slot) => [this.rows[slot].cells[0], this.rows[slot].cells[look.source + 1]]);
    }
  }

  light(weights, cellsOf) {
    const least = Math.min(0.1, Math.max(...weights) / 2);
    weights.forEach((weight, place) => {
      if (weight >= least) cellsOf(place).forEach((cell) => cell.classList.add("lit"));
    });
  }

  fillMap() {
    this.rows.forEach((row, slot) => {
      const weights = this.weights[this.first + slot];
      row.setAttribute("aria-rowindex", this.first + slot + 2);
      row.cells[0].replaceChildren(tokenElement(this.targets[this.first + slot]));
      weights.forEach((weight, place) => {
        const cell = row.cells[place + 1];
        const level = shade(weight);
        cell.classList.remove(...[...cell.classList].filter((name) => /^s\d$/.test(name)));
        if (level) cell.classList.add(`s${level}`);
        cell.firstChild.data = Math.round(100 * weight);
      });
    });
  }

  paintReadout({ target, source }) {
    const readout = this.part("readout");
    readout.replaceChildren(this.isEven ? "It looks at nothing: all source tokens are the same to it." : "");
    if (this.isEven) return;
    if (target !== null && source !== null) {
      readout.append(tokenElement(this.targets[target]), " looks at ", tokenElement(this.sources[source]), ` with ${percent(this.weights[target][source])}.`);
    } else if (target !== null) {
      readout.append(tokenElement(this.targets[target]), " comes from ", ...largest(this.weights[target], this.sources, 5), ".");
    } else if (source !== null) {
      readout.append(tokenElement(this.sources[source]), " is looked at by ", ...largest(this.column(source), this.targets, 5), ".");
    }
  }

  /* The ribbon: the source above, the output below, and lines from the one to the other. */

  prepareRibbon() {
    const ribbon = this.part("ribbon");
    const chip = (label, place, pointed, chosen) => {
      const element = make("span", { className: "chip" }, tokenElement(label));
      element.addEventListener("pointerenter", () => pointed(place));
      element.addEventListener("pointerleave", () => this.pointAt(null, null));
      element.addEventListener("click", () => chosen(place));
      return element;
    };
    this.sourceChips = this.sources.map((label, place) => chip(label, place, (source) => this.pointAt(null, source), (source) => this.choose(source)));
    this.targetChips = this.targets.map((label, place) => chip(label, place, (target) => this.pointAt(target, null), (target) => this.goTo(target)));
    this.lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    ribbon.append(
      make("div", { className: "chips source" }, ...this.sourceChips), this.lines,
      make("div", { className: "chips target" }, ...this.targetChips),
    );
    ribbon.hidden = false;
    new ResizeObserver(() => this.paint()).observe(ribbon);
  }

  paintRibbon(look) {
    const bySource = look.target === null && look.source !== null;
    const row = look.target === null ? [] : this.weights[look.target];
    const column = bySource ? this.column(look.source) : [];
    this.sourceChips.forEach((chip, place) => this.paintChip(chip, bySource || this.isEven ? 0 : row[place] || 0, place === look.source));
    this.targetChips.forEach((chip, place) => {
      this.paintChip(chip, column[place] || 0, place === look.target);
      chip.classList.toggle("later", place > this.step && !this.look);
    });
    this.drawLines(look, bySource ? column : row, bySource);
  }

  paintChip(chip, weight, isAt) {
    const level = shade(weight);
    chip.className = level ? `chip s${level}` : "chip";
    chip.classList.toggle("at", isAt);
  }

  /* Lines only where each side is in one line: elsewhere they would cross the tokens. */
  drawLines(look, weights, bySource) {
    const isInOneLine = (chips) => chips[0].offsetTop === chips[chips.length - 1].offsetTop;
    const hasRoom = isInOneLine(this.sourceChips) && isInOneLine(this.targetChips);
    this.targetChips[0].parentElement.classList.toggle("apart", hasRoom);
    this.lines.replaceChildren();
    if (!hasRoom || this.isEven) return;
    const middle = (chip) => chip.offsetLeft + chip.offsetWidth / 2;
    weights.forEach((weight, place) => {
      if (weight < 0.01) return;
      const source = this.sourceChips[bySource ? look.source : place];
      const target = this.targetChips[bySource ? place : look.target];
      const top = source.offsetTop + source.offsetHeight + 2;
      const bottom = target.offsetTop - 3;
      const half = (top + bottom) / 2;
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${middle(source)} ${top}C${middle(source)} ${half} ${middle(target)} ${half} ${middle(target)} ${bottom}`);
      path.setAttribute("stroke-width", 1 + 9 * weight);
      path.setAttribute("stroke-opacity", 0.35 + 0.65 * weight);
      this.lines.append(path);
    });
  }

  /* The stages of a step. */

  preparePanel() {
    this.part("panel").hidden = false;
    this.part("no-vectors").hidden = Boolean(this.data.decoder_outputs);
    this.part("colours").hidden = !this.data.decoder_outputs;
    if (this.part("summary")) drawStrip(this.part("summary"), this.data.summary);
    if (!this.data.similarities) return;
    this.isCosine = this.data.scale !== null;
    const all = this.data.similarities.flat();
    this.reach = this.isCosine ? 1 : Math.max(1e-9, ...all.map(Math.abs));
    this.pairs = this.sources.map((label, place) => this.makePair(label, place));
    this.part("pairs").append(...this.pairs.map((pair) => pair.row));
    this.prepareScale();
  }

  makePair(label, place) {
    const button = make("button", { type: "button" }, tokenElement(label));
    button.addEventListener("click", () => this.choose(place));
    const [similarity, weight] = [makeMeter(true), makeMeter(false)];
    const texts = [make("span"), make("span")];
    const product = make("td", { className: "number" });
    const row = make(
      "tr", {},
      make("th", { scope: "row" }, button),
      make("td", {}, similarity.meter, texts[0]), product, make("td", {}, weight.meter, texts[1]),
    );
    row.addEventListener("pointerenter", () => this.pointAt(this.step, place));
    row.addEventListener("pointerleave", () => this.pointAt(null, null));
    const set = (similar, scaled, share) => {
      similarity.set(similar / this.reach);
      weight.set(share);
      texts[0].textContent = number(similar);
      product.textContent = number(scaled);
      texts[1].textContent = percent(share);
    };
    return { row, button, set };
  }

  /* The slider is logarithmic: equal ways multiply by equal factors. */
  prepareScale() {
    this.range = this.isCosine ? [Math.min(1, this.ownFactor), 100] : [0.1, 10];
    const slider = this.part("scale");
    slider.addEventListener("input", () => {
      const [least, most] = this.range;
      this.setFactor(least * (most / least) ** (slider.value / slider.max));
    });
    const own = this.isCosine ? [1, this.ownFactor, 100] : [0.1, 1, 10];
    const names = this.isCosine ? ["1: the bare cosine", `${number(this.ownFactor, 1)}: this model`, "100: the most"] : ["0.1: flatter", "1: this model", "10: sharper"];
    this.presets = own.map((factor, index) => {
      const button = make("button", { type: "button", textContent: names[index] });
      button.addEventListener("click", () => this.setFactor(factor));
      return { factor, button };
    });
    this.part("presets").append(...this.presets.map((preset) => preset.button));
    this.showFactor();
  }

  setFactor(factor) {
    this.factor = factor;
    this.weights = factor === this.ownFactor ? this.own : this.data.similarities.map((row) => softmax(row.map((one) => one * factor)));
    this.showFactor();
    this.paint();
    this.fillPanel();
  }

  showFactor() {
    const [least, most] = this.range;
    const slider = this.part("scale");
    slider.value = (slider.max * Math.log(this.factor / least)) / Math.log(most / least);
    const shown = number(this.factor, this.factor < 10 ? 2 : 1);
    slider.setAttribute("aria-valuetext", shown);
    this.part("scale-shown").value = shown;
    this.presets.forEach(({ factor, button }) => button.setAttribute("aria-pressed", String(factor === this.factor)));
  }

  choose(source) {
    this.chosen = source;
    this.fillPanel();
  }

  fillPanel() {
    if (!this.part("panel")) return;
    this.part("ended").hidden = !this.isOver;
    this.part("stages").hidden = this.isOver;
    const label = this.targets[this.step];
    this.part("title").replaceChildren(this.isOver ? "" : `Step ${this.step + 1} of ${this.targets.length}: it writes `, this.isOver ? "" : tokenElement(label));
    if (this.isOver) return;
    const before = this.targets.slice(Math.max(0, this.step - 6), this.step).flatMap((one) => [tokenElement(one), " "]);
    this.part("before").replaceChildren(...(before.length ? ["After ", this.step > 6 ? "… " : "", ...before] : ["Before anything is written, "]));
    const { decoder_outputs: queries } = this.data;
    drawStrip(this.part("query"), queries && queries[this.step]);
    if (this.data.similarities) this.fillAttention();
    this.fillNext();
  }

  fillAttention() {
    const similarities = this.data.similarities[this.step];
    const weights = this.weights[this.step];
    const scaled = similarities.map((one) => one * this.factor);
    this.part("times").textContent = `× ${number(this.factor, this.factor < 10 ? 2 : 1)}`;
    this.pairs.forEach(({ row, button, set }, place) => {
      set(similarities[place], scaled[place], weights[place]);
      row.classList.toggle("chosen", place === this.chosen);
      button.setAttribute("aria-pressed", String(place === this.chosen));
    });
    this.fillWorked(similarities[this.chosen], scaled, weights[this.chosen]);
    this.fillWhatIf(weights);
    const { encoder_outputs: outputs, contexts } = this.data;
    this.part("key-box").hidden = !outputs;
    this.part("key-name").replaceChildren(tokenElement(this.sources[this.chosen]));
    drawStrip(this.part("key"), outputs && outputs[this.chosen]);
    const context = this.weights === this.own || !outputs ? contexts && contexts[this.step] : weightedSum(weights, outputs);
    drawStrip(this.part("context"), context);
    this.part("sum").replaceChildren("The encoder outputs, each times its percentage, added up: ", ...largest(weights, this.sources, 4), ".");
  }

  fillWorked(similarity, scaled, weight) {
    const sign = (text) => make("span", { className: "op" }, ` ${text} `);
    const power = (value) => ["e", make("sup", {}, number(value))];
    this.part("worked").replaceChildren(
      tokenElement(this.sources[this.chosen]), sign(":"), number(similarity), sign("×"), number(this.factor), sign("="), number(scaled[this.chosen]),
      sign("→"), ...power(scaled[this.chosen]), sign("÷"), ...power(logSumExp(scaled)), make("span", { className: "op" }, " (the sum)"), sign("="), percent(weight),
    );
  }

  fillWhatIf(weights) {
    const many = number(2 ** entropy(weights), 1);
    const most = percent(Math.max(...weights));
    const spread = `The largest weight is ${most}; it is as if ${many} of ${weights.length} tokens were looked at evenly.`;
    const isOwn = this.weights === this.own;
    this.part("what-if").textContent = isOwn ? spread : `What if? ${spread} The output stays the one that the model wrote with ${number(this.ownFactor, 1)}.`;
  }

  fillNext() {
    const step = this.data.steps[this.step];
    const rows = step.likeliest.map(([label, probability]) => this.likely(label, probability, label === step.token));
    if (!step.likeliest.some(([label]) => label === step.token)) rows.push(this.likely(step.token, step.probability, true));
    this.part("likeliest").replaceChildren(...rows);
    const many = number(2 ** step.entropy, 1);
    const words = step.entropy < 0.5 ? "it is nearly sure" : step.entropy < 1.5 ? "it hesitates a little" : "it is unsure";
    this.part("entropy").textContent = `Entropy ${number(step.entropy)} bits: ${words}, as if it chose among ${many} equally likely tokens.`;
  }

  likely(label, probability, isWritten) {
    const { meter, set } = makeMeter(false);
    set(probability);
    const name = make("span", {}, tokenElement(label));
    // The unknown token writes what it looks at most.
    if (isWritten && label !== this.targets[this.step]) name.append(" copies ", tokenElement(this.targets[this.step]));
    if (isWritten) name.append(" ✓");
    return make("li", { className: isWritten ? "written" : "" }, name, meter, make("span", {}, percent(probability)));
  }
}

/* The steps that all models on the page take together. */
class Stepper {
  constructor(views, count) {
    Object.assign(this, { views, count, step: 0, timer: null });
    const part = (name) => document.querySelector(`[data-part="${name}"]`);
    this.slider = part("step");
    this.shown = part("step-shown");
    this.button = part("play");
    this.live = part("live");
    this.slider.max = count;
    this.slider.value = 1;
    this.slider.addEventListener("input", () => this.goTo(this.slider.value - 1));
    this.button.addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    part("previous").addEventListener("click", () => this.goTo(this.step - 1));
    part("next").addEventListener("click", () => this.goTo(this.step + 1));
    part("stepper").hidden = count === 0;
  }

  /* By a person, which ends the playing. */
  goTo(step) {
    this.pause();
    this.show(step);
    this.announce();
  }

  show(step) {
    this.step = Math.max(0, Math.min(this.count - 1, step));
    this.slider.value = this.step + 1;
    const [first] = this.views;
    const name = this.step < first.targets.length ? tokenName(first.targets[this.step]) : "–";
    this.slider.setAttribute("aria-valuetext", `step ${this.step + 1} of ${this.count}, ${name}`);
    this.shown.value = `${this.step + 1} of ${this.count}`;
    this.views.forEach((view) => view.show(this.step));
  }

  play() {
    if (this.step === this.count - 1) this.show(0);
    this.button.textContent = "Pause";
    this.timer = setInterval(() => {
      if (this.step < this.count - 1) this.show(this.step + 1);
      if (this.step === this.count - 1) this.pause();
    }, 1200);
  }

  pause() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Play";
    this.announce();
  }

  /* Says the step in words, once it has come to rest. */
  announce() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      this.live.textContent = this.views
        .filter((view) => view.own.length && !view.isOver)
        .map((view) => {
          const written = `Step ${view.step + 1} writes ${tokenName(view.targets[view.step])}`;
          if (view.isEven) return `${written}.`;
          const row = view.weights[view.step];
          const place = row.indexOf(Math.max(...row));
          return `${written}, looks most at ${tokenName(view.sources[place])}, ${percent(row[place])}.`;
        })
        .join(" ");
    }, 400);
  }
}

(() => {
  const data = JSON.parse(document.getElementById("explanation").textContent);
  const models = data.other ? [data, data.other] : [data];
  let stepper = null;
  const goTo = (step) => stepper.goTo(step);
  const views = [...document.querySelectorAll("[data-view]")].map((root, place) => new View(root, models[place], goTo));
  stepper = new Stepper(views, Math.max(...models.map((one) => one.target_tokens.length)));
  for (const details of document.querySelectorAll('details[data-part="numbers"]')) details.open = false;
  if (stepper.count) stepper.show(0);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => views.forEach((view) => view.fillPanel()));
})();
