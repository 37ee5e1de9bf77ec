"use strict";
(() => {
  const { figures, templates } = JSON.parse(document.getElementById("data").textContent);
  const charts = [...document.querySelectorAll(".chart")];
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const isPrint = matchMedia("print");
  const chooseTemplate = () => templates[isDark.matches && !isPrint.matches ? "dark" : "light"];
  // Where a finger scrolls the page it must not draw a rectangle.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  // The figure counts labels for a wide chart.
  const isNarrow = matchMedia("(max-width: 600px)").matches;
  const NARROW_TICKS = 4;
  const PRINT_WIDTH = 660; // fits on A4 and letter
  const config = { displayModeBar: false, responsive: true, showSendToCloud: false };

  charts.forEach((chart, number) => {
    // A copy, since plotly writes into what it is given; the figure says what all is.
    const { data, layout } = structuredClone(figures[number]);
    if (isNarrow && layout.xaxis.nticks) layout.xaxis.nticks = NARROW_TICKS;
    Plotly.newPlot(chart, data, { ...layout, template: chooseTemplate(), dragmode }, config);
  });

  const repaint = () => {
    const size = isPrint.matches ? { autosize: false, width: PRINT_WIDTH } : { autosize: true, width: null };
    for (const chart of charts) Plotly.relayout(chart, { template: chooseTemplate(), ...size });
  };
  isDark.addEventListener("change", repaint);
  isPrint.addEventListener("change", repaint);

  // Ranges of logarithmic axes are logarithms, those of names count them: all move alike.
  const move = (chart, { factor = 1, right = 0, up = 0 }) => {
    const change = {};
    for (const [axis, share] of [["xaxis", right], ["yaxis", up]]) {
      const [low, high] = chart.layout[axis].range;
      const middle = (low + high) / 2 + share * (high - low);
      const half = (factor * (high - low)) / 2;
      change[`${axis}.range`] = [middle - half, middle + half];
    }
    Plotly.relayout(chart, change);
  };
  const showAll = (chart) => {
    const { layout } = figures[charts.indexOf(chart)];
    const change = {};
    for (const axis of ["xaxis", "yaxis"]) {
      const { range } = layout[axis];
      change[range ? `${axis}.range` : `${axis}.autorange`] = range ?? true;
    }
    Plotly.relayout(chart, change);
  };
  const zoom = (chart, factor) => (factor ? move(chart, { factor }) : showAll(chart));
  const download = (chart, format) => {
    const title = chart.closest("figure").querySelector("h2").textContent;
    Plotly.downloadImage(chart, { format, filename: title, width: 900, height: 500, scale: 2 });
  };

  const keys = {
    "+": { factor: 0.5 }, "-": { factor: 2 }, ArrowLeft: { right: -0.1 }, ArrowRight: { right: 0.1 },
    ArrowDown: { up: -0.1 }, ArrowUp: { up: 0.1 },
  };
  for (const chart of charts) {
    chart.addEventListener("keydown", (event) => {
      if (event.key === "0") showAll(chart);
      else if (keys[event.key]) move(chart, keys[event.key]);
      else return;
      event.preventDefault();
    });
    for (const button of chart.closest("figure").querySelectorAll("button")) {
      button.addEventListener("click", () => {
        if (button.dataset.format) download(chart, button.dataset.format);
        else zoom(chart, Number(button.dataset.zoom));
      });
    }
  }
})();
