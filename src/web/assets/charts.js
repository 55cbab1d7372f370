// Small charts of a stretch of time: lines, the values under the pointer, and the same figures as a table.

import { Plot, html, useEffect, useLayoutEffect, useRef, useState } from "./vendor.js";
import { clock, now } from "./words.js";

const HEIGHT = 132;
/** Room for the words of the vertical axis, the same everywhere, so that charts below each other share their hours. */
const AXIS = 54;

/** The greatest and least that were measured, and the last that was. */
export function extent(values) {
  const measured = values.filter((value) => value !== null && value !== undefined);
  if (measured.length === 0) return { last: null, least: null, greatest: null };
  return { last: values.at(-1) ?? null, least: Math.min(...measured), greatest: Math.max(...measured) };
}

/**
 * Lines over `at` (ms since 1970). Each line has a `name`, the CSS variable of its `colour`, its `values` (null: nothing was
 * measured) and may be `dashed`. `stacked` draws them upon each other, the first at the bottom; `log` is for what spans magnitudes,
 * `whole` for what is counted.
 */
export function Chart({ title, note, at, lines, format, stacked, log, whole }) {
  const [index, setIndex] = useState(null);
  const theme = useTheme();
  const host = usePlot({ at, lines, format, stacked, log, whole, theme, point: setIndex });
  const shown = index !== null && index < at.length ? index : null;
  const value = (line) => {
    const found = shown === null ? line.values.at(-1) : line.values[shown];
    return found === null || found === undefined ? "—" : format(found);
  };
  return html`
    <figure class="card chart">
      <figcaption><h3>${title}</h3><span class="quiet small" aria-hidden="true">${shown === null ? note : clock(at[shown])}</span></figcaption>
      <div class="plot" aria-hidden="true" ref=${host}>${isBare(lines) && html`<p class="quiet small">Nothing happened that it could show.</p>`}</div>
      <ul class="chart-legend small" aria-hidden="true">
        ${lines.map((line) => html`<li key=${line.name}><i class=${line.dashed ? "dashed" : ""} style=${{ "--of": `var(${line.colour})` }}></i>${line.name} <b class="number">${value(line)}</b></li>`)}
      </ul>
      <${Figures} title=${title} lines=${lines} format=${format} />
    </figure>`;
}

const isBare = (lines) => lines.every(({ values }) => values.every((value) => value === null || value === undefined));

/** What the chart says, for those who do not see it. */
function Figures({ title, lines, format }) {
  const cell = (value) => (value === null ? "nothing measured" : format(value));
  const row = ({ name, values }) => {
    const { last, least, greatest } = extent(values);
    return html`<tr key=${name}><th scope="row">${name}</th><td>${cell(last)}</td><td>${cell(least)}</td><td>${cell(greatest)}</td></tr>`;
  };
  return html`
    <div class="hidden-text">
      <table>
        <caption>${title}, over what is shown</caption>
        <thead><tr><th scope="col">Of what</th><th scope="col">Last</th><th scope="col">Least</th><th scope="col">Greatest</th></tr></thead>
        <tbody>${lines.map(row)}</tbody>
      </table>
    </div>`;
}

/** A number that is another one when colours are. */
function useTheme() {
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const turn = () => setTheme((count) => count + 1);
    addEventListener("themechange", turn);
    system.addEventListener("change", turn);
    return () => {
      removeEventListener("themechange", turn);
      system.removeEventListener("change", turn);
    };
  }, []);
  return theme;
}

/** Keeps a plot in an element: made anew for other lines or colours, given new data otherwise. */
function usePlot(drawing) {
  const host = useRef(null);
  const held = useRef({});
  held.current.drawing = drawing;
  const { at, lines, stacked, theme } = drawing;
  const data = [at, ...(stacked ? sums(lines) : lines.map(({ values }) => (drawing.log ? positive(values) : values)))];
  const isEmpty = at.length === 0 || isBare(lines);
  useLayoutEffect(() => {
    if (isEmpty) return undefined;
    const { clientWidth: width } = host.current;
    const plot = new Plot(options(held.current, host.current, width), data, host.current);
    const resized = new ResizeObserver(([{ contentRect }]) => plot.setSize({ width: contentRect.width, height: HEIGHT }));
    resized.observe(host.current);
    held.current.plot = plot;
    return () => {
      resized.disconnect();
      plot.destroy();
      held.current.plot = null;
    };
  }, [isEmpty, theme, lines.map(({ name }) => name).join("\n")]);
  useLayoutEffect(() => held.current.plot?.setData(data), [at]);
  return host;
}

/** Each line upon the ones before it. */
function sums(lines) {
  let below = null;
  return lines.map(({ values }) => {
    below = values.map((value, index) => (value ?? 0) + (below?.[index] ?? 0));
    return below;
  });
}

/** A logarithm has no place for nothing. */
const positive = (values) => values.map((value) => (value > 0 ? value : null));

function options(held, host, width) {
  const { lines, stacked, log, whole, point } = held.drawing;
  const paint = paints(host);
  const grid = { stroke: paint("var(--line)"), width: 1 };
  const axis = { stroke: paint("var(--quiet)"), font: `11px ${getComputedStyle(host).fontFamily}`, grid, ticks: { show: false } };
  return {
    width, height: HEIGHT, ms: 1, padding: [8, 8, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 }, sync: { key: "charts" } },
    scales: {
      x: { range: () => stretch(held.drawing.at) },
      y: log ? { distr: 3 } : { range: (_plot, _least, greatest) => [0, greatest > 0 ? greatest * 1.1 : 1] },
    },
    axes: [
      { ...axis, size: 26, gap: 6, space: 70, values: (plot, splits) => splits.map((instant) => (isAtEdge(plot, instant) ? "" : minute(instant))) },
      { ...axis, size: AXIS, gap: 6, space: 30, ...(log && { splits: magnitudes, filter: (_plot, splits) => splits }), ...(whole && { incrs: WHOLE }), values: (_plot, splits) => splits.map((value) => (value === null ? "" : held.drawing.format(value))) },
    ],
    series: [{}, ...lines.map((line) => series(line, paint, stacked))],
    bands: stacked ? lines.slice(1).map((_line, index) => ({ series: [index + 2, index + 1] })) : [],
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
  };
}

/** What the lines of an axis of counts may be apart. */
const WHOLE = [1, 2, 5].flatMap((digit) => [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].map((power) => digit * power)).sort((one, other) => one - other);

/** Spans that have short names, in ms: a logarithmic axis of those lines alone is read at a glance. */
const SPANS = [0.1, 1, 10, 100, 1e3, 1e4, 6e4, 6e5, 3.6e6, 3.6e7, 8.64e7, 6.048e8];
const magnitudes = (_plot, _axis, least, greatest) => {
  const within = SPANS.filter((size) => size >= least && size <= greatest);
  return within.length > 5 ? within.filter((_size, index) => index % 2 === 0) : within;
};

function series({ colour, dashed }, paint, stacked) {
  const stroke = paint(`var(${colour})`);
  return {
    stroke, width: 1.5,
    dash: dashed ? [4, 3] : undefined,
    fill: stacked ? paint(`color-mix(in srgb, var(${colour}) 38%, transparent)`) : undefined,
    points: { show: false, filter: lonely, size: 4, fill: stroke },
  };
}

/** What has no neighbour is no part of a line, and would not be seen. */
function lonely(plot, number) {
  const values = plot.data[number];
  const isNone = (index) => values[index] === null || values[index] === undefined;
  const found = [];
  for (let index = 0; index < values.length; index += 1) {
    if (!isNone(index) && isNone(index - 1) && isNone(index + 1)) found.push(index);
  }
  return found.length ? found : null;
}

/** From the first sample to the last, and never so little that a line would be a wall. */
function stretch(at) {
  const last = at.at(-1) ?? now();
  return [Math.min(at[0] ?? last, last - 300_000), last];
}

/** Colours as the canvas takes them: it knows neither variables nor themes, an element does. */
function paints(host) {
  return (colour) => {
    const probe = document.createElement("i");
    probe.style.color = colour;
    host.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  };
}

const hours = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
/** Whether a label in the middle of this place would be cut off at the right. */
const isAtEdge = ({ scales: { x } }, value) => x.max - value < 0.07 * (x.max - x.min);
const minute = (instant) => hours.format(new Date(instant));
