// The loss: a faint raw line under a smoothed one, in the colours of the theme.

import uPlot from "uplot";

const box = document.getElementById("loss");
let chart;

export async function drawLoss() {
  if (!box) return;
  const answer = await fetch(box.dataset.loss);
  if (!answer.ok) return;
  const { steps, series } = await answer.json();
  if (steps.length < 2) return;
  const raw = series.loss;
  const data = [steps, raw, smooth(raw)];
  if (chart) chart.setData(data);
  else {
    box.replaceChildren();
    chart = new uPlot(options(), data, box);
    new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: 220 })).observe(box);
  }
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `Loss from ${raw[0].toFixed(3)} to ${data[2].at(-1).toFixed(3)} at step ${steps.at(-1)}`);
}

function smooth(values, weight = 0.94) {
  let mean = 0;
  let sum = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value;
    sum = weight * sum + (1 - weight);
    return mean / sum;
  });
}

function options() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px Inter Variable" };
  return {
    width: box.clientWidth,
    height: 220,
    legend: { show: false },
    cursor: { y: false },
    scales: { x: { time: false } },
    axes: [axis, { ...axis, size: 48 }],
    series: [
      {},
      { stroke: colour("--line"), width: 1, points: { show: false } },
      { stroke: colour("--accent"), width: 2, points: { show: false } },
    ],
  };
}
