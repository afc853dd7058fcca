/* What the page of an explanation is made of: arithmetic, words, elements, colours. */
"use strict";

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);

const softmax = (scores) => {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = total(powers);
  return powers.map((power) => power / sum);
};

const logSumExp = (scores) => {
  const most = Math.max(...scores);
  return most + Math.log(total(scores.map((score) => Math.exp(score - most))));
};

const weightedSum = (weights, vectors) =>
  vectors[0].map((_, unit) => total(weights.map((weight, place) => weight * vectors[place][unit])));

/* In bits. */
const entropy = (weights) => total(weights.map((weight) => (weight > 0 ? -weight * Math.log2(weight) : 0)));

/* As shade() in explanation_page.py. */
const shade = (weight) => (weight < 0.005 ? 0 : Math.max(1, Math.round(9 * Math.sqrt(Math.min(weight, 1)))));

/* With a real minus sign, and none before 0. */
const number = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=.*[1-9])/, "\u2212").replace(/^-/, "");

const percent = (share) => {
  const value = 100 * share;
  if (value === 0) return "0\u00a0%";
  if (value > 0 && value < 0.1) return "under 0.1\u00a0%";
  return `${number(value, value < 9.95 ? 1 : 0)}\u00a0%`;
};

const make = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

/* A token by itself: texts of any direction stay apart from what is around them. */
const tokenElement = (label) =>
  label ? make("bdi", { className: "symbol", textContent: label, title: label.length > 8 ? label : "" }) : make("i", { className: "special", textContent: "end" });

const tokenName = (label) => label || "end";

/* A bar from 0 to 1, or, if signed, from -1 to 1 around its middle. */
const makeMeter = (signed) => {
  const bar = make("i");
  const meter = make("span", { className: signed ? "meter signed" : "meter", ariaHidden: "true" }, bar);
  return { meter, set: (value) => setMeter(bar, signed, Math.max(-1, Math.min(1, value))) };
};

const setMeter = (bar, signed, value) => {
  const half = signed ? 0.5 : 1;
  bar.style.setProperty("--from", signed ? 0.5 + Math.min(value, 0) / 2 : 0);
  bar.style.setProperty("--size", Math.abs(value) * half);
  bar.classList.toggle("less", value < 0);
};

/* Draws a colour per number: blue above 0, orange below, paper at 0. */
const drawStrip = (canvas, vector) => {
  canvas.hidden = !vector;
  if (!vector) return;
  const style = getComputedStyle(document.documentElement);
  const colours = [style.getPropertyValue("--b"), style.getPropertyValue("--a")];
  const most = Math.max(1e-9, ...vector.map(Math.abs));
  canvas.width = vector.length * 4;
  const context = canvas.getContext("2d");
  vector.forEach((value, unit) => {
    context.globalAlpha = Math.sqrt(Math.abs(value) / most);
    context.fillStyle = colours[value > 0 ? 1 : 0];
    context.fillRect(unit * 4, 0, 4, canvas.height);
  });
};

/* Scrolls a box, and not the page, until an element in it can be seen below its head. */
const reveal = (element, box = element.parentElement, head = 0) => {
  const start = element.offsetParent === box.offsetParent ? box.offsetTop : 0;
  const top = element.offsetTop - start - head - 3;
  const bottom = element.offsetTop - start + element.offsetHeight + 3 - box.clientHeight;
  box.scrollTop = Math.max(bottom, Math.min(top, box.scrollTop));
};

/* The largest weights as text and tokens: "t 81 %, a 12 %". */
const largest = (weights, labels, most = 3) => {
  const places = weights.map((_, place) => place).sort((a, b) => weights[b] - weights[a]);
  const shown = places.filter((place, rank) => rank === 0 || (rank < most && weights[place] >= 0.01));
  return shown.flatMap((place, rank) => [rank ? ", " : "", tokenElement(labels[place]), ` ${percent(weights[place])}`]);
};
