(() => {
  "use strict";
  const { figures } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  const sized = new ResizeObserver((entries) => entries.forEach(({ target }) => Plotly.Plots.resize(target)));
  // Okabe and Ito's colours, then the same again
  const colors = ["#0072b2", "#d55e00", "#009e73", "#b85c93", "#e69f00", "#56b4e9"];

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function painted(trace, place, all) {
    const color = all.length === 1 ? variable("--accent") : colors[place % colors.length];
    const scale = [[0, variable("--grid")], [1, variable("--accent")]];
    return {
      ...trace,
      line: { ...trace.line, color, width: 1.5 },
      marker: { color, size: 6, line: { width: 0 } },
      ...(trace.type === "heatmap" ? { colorscale: scale, showscale: false, hoverongaps: false, hoverinfo: "skip" } : {}),
    };
  }

  function draw(place) {
    const { data, layout } = figures[place.dataset.figure];
    const font = { family: variable("--sans"), size: 12, color: variable("--faint") };
    const axis = { fixedrange: true, automargin: true, zeroline: false, gridcolor: variable("--grid"), nticks: 7 };
    const titled = (given) => ({ ...axis, ...given, title: { ...given.title, standoff: 6, font: { size: 12 } } });
    Plotly.react(
      place,
      data.map(painted),
      {
        ...layout,
        xaxis: titled(layout.xaxis),
        yaxis: titled(layout.yaxis),
        margin: { l: 44, r: 10, t: 8, b: 40 },
        paper_bgcolor: "transparent",
        plot_bgcolor: "transparent",
        bargap: 0.04,
        font,
        showlegend: data.length > 1,
        legend: { orientation: "h", y: 1.12, font: { size: 11 } },
        dragmode: false,
      },
      { displayModeBar: false, responsive: false, doubleClick: false, showTips: false },
    );
    if (!drawn.has(place)) sized.observe(place);
    drawn.add(place);
  }

  const places = [...document.querySelectorAll("[data-figure]")];
  const near = new IntersectionObserver(
    (entries) =>
      entries.forEach(({ isIntersecting, target }) => {
        if (!isIntersecting) return;
        near.unobserve(target);
        draw(target);
      }),
    { rootMargin: "800px" },
  );
  places.forEach((place) => near.observe(place));
  dark.addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => places.forEach(draw));
})();
