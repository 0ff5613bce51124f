(() => {
  "use strict";
  const { figures, colors } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const drawn = new Set();
  let everySeed = false;

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faded = (hex, alpha) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

  // how each part that a trace can play is drawn
  const parts = {
    mean: { width: 2.2, alpha: 1 },
    band: { width: 0, alpha: 0, fill: 0.11 },
    seed: { width: 1, alpha: 0.45 },
    agent: { width: 1, alpha: 0.4 },
    dotted: { width: 1.6, alpha: 0.9 },
  };

  function painted(trace) {
    const { sampler, role } = trace.meta;
    const part = parts[role];
    const color = colors[sampler][dark.matches ? 1 : 0];
    return {
      ...trace,
      type: "scatter",
      line: { ...trace.line, color: faded(color, part.alpha), width: part.width },
      marker: { ...trace.marker, color, line: { color, width: 1.2 } },
      fillcolor: part.fill ? faded(color, part.fill) : undefined,
      hoverlabel: { namelength: -1 },
    };
  }

  const sized = new ResizeObserver((entries) => entries.forEach(({ target }) => Plotly.Plots.resize(target)));

  function draw(place) {
    const { data, layout } = figures[place.dataset.figure];
    const shown = data.filter(({ meta }) => !hidden.has(meta.sampler) && (everySeed || meta.role !== "seed"));
    const font = { family: variable("--sans"), size: 12, color: variable("--text") };
    const spike = { spikecolor: variable("--faint"), spikethickness: 1, spikedash: "dot" };
    const axis = { fixedrange: true, automargin: true, zeroline: false, tickcolor: "transparent", ticklen: 4 };
    Plotly.react(
      place,
      shown.map(painted),
      {
        ...layout,
        xaxis: { ...axis, ...spike, showgrid: false, title: { text: "deployment", standoff: 6, font: { size: 12 } }, unifiedhovertitle: { text: "deployment %{x}" }, ...layout.xaxis },
        yaxis: { ...axis, gridcolor: variable("--grid"), zerolinecolor: variable("--faint"), zerolinewidth: 1, nticks: 7, ...layout.yaxis },
        margin: { l: 36, r: 10, t: 8, b: 36 },
        paper_bgcolor: "transparent",
        plot_bgcolor: "transparent",
        font: { ...font, color: variable("--faint") },
        hoverlabel: { bgcolor: variable("--raised"), bordercolor: variable("--edge"), font },
        showlegend: false,
        dragmode: false,
      },
      { displayModeBar: false, responsive: false, doubleClick: false, showTips: false },
    );
    if (!drawn.has(place)) sized.observe(place);
    drawn.add(place);
  }

  const redraw = () => drawn.forEach(draw);
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
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => places.forEach(draw));

  document.querySelectorAll("[data-toggle]").forEach((button) =>
    button.addEventListener("click", () => {
      const sampler = Number(button.dataset.toggle);
      const show = hidden.delete(sampler) || !hidden.add(sampler);
      button.setAttribute("aria-pressed", String(show));
      document.querySelectorAll(`[data-sampler="${sampler}"]`).forEach((one) => (one.hidden = !show));
      redraw();
    }),
  );
  const seeds = document.getElementById("seeds");
  seeds.addEventListener("change", () => {
    everySeed = seeds.checked;
    redraw();
  });

  document.querySelectorAll(".episodes").forEach((box) => {
    const time = box.querySelector(".time");
    const play = box.querySelector(".play");
    const choice = box.querySelector("select");
    const panels = [...box.querySelectorAll(".panels")];
    const agents = [...box.querySelectorAll(".agent")].map((agent) => {
      const done = agent.previousElementSibling.previousElementSibling;
      return { agent, done, points: done.getAttribute("points").split(" ") };
    });
    let timer = null;

    function show(step) {
      agents.forEach(({ agent, done, points }) => {
        const last = Math.min(step, points.length - 1);
        done.setAttribute("points", points.slice(0, last + 1).join(" "));
        agent.setAttribute("transform", `translate(${points[last].replace(",", " ")})`);
      });
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶";
    }
    time.addEventListener("input", () => {
      stop();
      show(Number(time.value));
    });
    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (time.value === time.max) time.value = 0;
      play.textContent = "❚❚";
      timer = setInterval(() => {
        time.value = Number(time.value) + 1;
        show(Number(time.value));
        if (time.value === time.max) stop();
      }, 110);
    });
    if (choice)
      choice.addEventListener("change", () => {
        stop();
        panels.forEach((panel, place) => (panel.hidden = place !== Number(choice.value)));
        time.max = time.value = panels[Number(choice.value)].dataset.steps;
        show(Number(time.value));
      });
  });
})();
