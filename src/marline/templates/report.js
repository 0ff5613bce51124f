(() => {
  "use strict";
  document.querySelectorAll("[data-toggle]").forEach((button) =>
    button.addEventListener("click", () => {
      const show = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(show));
      document
        .querySelectorAll(`[data-sampler="${button.dataset.toggle}"]`)
        .forEach((one) => one.toggleAttribute("hidden", !show));
      document.dispatchEvent(new Event("marline:shown"));
    }),
  );
  const seeds = document.getElementById("seeds");
  const every = () => document.body.classList.toggle("every-seed", seeds.checked);
  if (seeds) {
    seeds.addEventListener("change", every);
    every();
  }

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
