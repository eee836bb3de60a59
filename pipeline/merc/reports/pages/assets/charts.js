"use strict";
// What the scripts of the pages draw with: elements, whose texts are only ever texts, and small charts as SVG.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  // As merc.shown.visible: signs that turn the direction of writing, or cannot be seen, are shown by their number.
  const ACTS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/g;
  const code = (sign) => {
    const number = sign.charCodeAt(0);
    return number < 256 ? `\\x${number.toString(16).padStart(2, "0")}` : `\\u${number.toString(16).padStart(4, "0")}`;
  };
  const shown = (text) => String(text).replace(/[\ud800-\udbff][\udc00-\udfff]|[^]/g, (sign) => (sign.length === 1 ? sign.replace(ACTS, code) : sign));

  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
    element.append(...children.flat(Infinity).filter((child) => child !== null).map((child) => (child instanceof Node ? child : shown(child))));
    return element;
  }
  const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

  /** Round numbers from low to high, about `wanted` of them. */
  function ticks(low, high, wanted = 6) {
    const rough = (high - low) / wanted || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, at) => (first + at) * step);
  }

  /** Lowest and highest of all values with a little room; `whole` are ends that are kept to. */
  function range(values, whole) {
    if (whole) return whole;
    const low = Math.min(...values), high = Math.max(...values);
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    return [low - room, high + room];
  }

  const percent = (value) => String(Number((100 * value).toFixed(1)));
  const plain = (value) => String(Number(value.toPrecision(3)));

  /**
   * Lines over a plane. `lines`: [{points: [[x, y]], class, dots: whether each point has one, chosen: place of the one that has}].
   * `x` and `y`: {label, range: [low, high] or nothing, percent: whether values are shares}.
   */
  function chart({ title, lines, x, y, diagonal = false, width = 340, height = 220 }) {
    const [left, right, top, bottom] = [40, 8, 8, 36];
    const points = lines.flatMap((line) => line.points);
    const [x0, x1] = range(points.map((point) => point[0]), x.range), [y0, y1] = range(points.map((point) => point[1]), y.range);
    const over = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
    const up = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - top - bottom);
    const words = (axis, value) => (axis.percent ? percent(value) : plain(value));
    const base = height - bottom;
    const drawn = [
      ticks(y0, y1).map((value) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: up(value), y2: up(value) }),
        svg("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, words(y, value)),
      ]),
      ticks(x0, x1).map((value) => svg("text", { x: over(value), y: base + 15, "text-anchor": "middle" }, words(x, value))),
      svg("line", { class: "grid", x1: left, x2: width - right, y1: base, y2: base }),
      svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, x.label),
      diagonal ? svg("line", { class: "diagonal", x1: over(x0), y1: up(x0), x2: over(x1), y2: up(x1) }) : null,
      lines.map((line) => [
        svg("polyline", { class: line.class, points: line.points.map(([a, b]) => `${over(a).toFixed(1)},${up(b).toFixed(1)}`).join(" ") }),
        line.points.filter((_, at) => line.dots || at === line.chosen).map(([a, b]) => svg("circle", { class: line.class, cx: over(a).toFixed(1), cy: up(b).toFixed(1), r: line.dots ? 2.6 : 4 })),
      ]),
    ];
    return el("figure", {}, el("h3", {}, title), svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${y.label} over ${x.label}` }, drawn), el("figcaption", {}, y.label));
  }

  /** Points of a plane whose sides are equal. `points`: [[class, x, y]] in thousandths; `colours` and `names` of the classes. */
  function scatter(title, points, colours, names) {
    const tall = Math.max(...points.map((point) => point[2])) / 2.5;
    const circles = points.map(([own, x, y]) => svg("circle", { class: "point", cx: (x / 2.5).toFixed(1), cy: (tall - y / 2.5).toFixed(1), r: 3, style: `fill: ${colours[own]}` }, svg("title", {}, names[own])));
    return el("figure", {}, title, svg("svg", { class: "chart", viewBox: `-6 -6 412 ${(tall + 12).toFixed(0)}`, role: "img", "aria-label": "Map of the utterances by emotion" }, circles));
  }

  window.merc.draw = { el, svg, shown, chart, scatter };
})();
