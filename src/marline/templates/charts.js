(() => {
  "use strict";
  const told = JSON.parse(document.getElementById("data").textContent);
  const pictures = [...document.querySelectorAll("[data-figure]")];
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const inSvg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // the values below the pointer
  const tip = element("div", "", "tip");
  const needle = inSvg("path", { class: "needle" });
  tip.hidden = true;
  document.body.append(tip);

  function lines(rows, x, y) {
    const isHidden = (row) => document.querySelector(`[data-toggle="${row.s}"][aria-pressed="false"]`);
    const found = rows
      .filter((row) => !isHidden(row))
      .map((row) => ({ row, at: row.x.indexOf(x) }))
      .filter(({ at }) => at >= 0);
    const thin = found.filter(({ row }) => row.r === "agent");
    const away = ({ row, at }) => Math.abs(row.y[at] - y);
    const nearest = thin.sort((a, b) => away(a) - away(b))[0];
    return found.filter((one) => one.row.r !== "agent" || (one === nearest && away(one) < 12));
  }

  function tell(picture, event) {
    const { places, rows, box } = told[picture.dataset.figure];
    const on = picture.getBoundingClientRect();
    const scale = picture.viewBox.baseVal.width / on.width;
    const [x, y] = [(event.clientX - on.left) * scale, (event.clientY - on.top) * scale];
    if (!places.length) return;
    const [place, name] = places.reduce((best, one) => (Math.abs(one[0] - x) < Math.abs(best[0] - x) ? one : best));
    const shown = lines(rows, place, y);
    if (!shown.length) return;
    tip.replaceChildren(element("p", name));
    for (const { row, at } of shown) {
      const line = element("p", "", row.s === null ? `n${row.n}` : `s${row.s}`);
      line.append(element("i"), element("span", row.name), element("b", row.t[at]));
      tip.append(line);
    }
    needle.setAttribute("d", `M${place} ${box[1]}V${box[3]}`);
    picture.append(needle);
    tip.hidden = false;
    const left = event.clientX + 14 + tip.offsetWidth < innerWidth ? event.clientX + 14 : event.clientX - 14 - tip.offsetWidth;
    tip.style.left = `${Math.max(4, left) + scrollX}px`;
    tip.style.top = `${Math.max(scrollY + 4, event.clientY + scrollY - tip.offsetHeight - 12)}px`;
  }
  function leave() {
    tip.hidden = true;
    needle.remove();
  }
  pictures.forEach((picture) => {
    picture.addEventListener("pointermove", (event) => tell(picture, event));
    picture.addEventListener("pointerdown", (event) => tell(picture, event));
    picture.addEventListener("pointerleave", leave);
  });
  addEventListener("scroll", leave, { passive: true });

  // the height of a chart is fitted to what is shown, with what is hidden left out
  const pairs = (text) => text.split(" ").map((pair) => pair.split(",").map(Number));
  const outlines = (picture) =>
    [...picture.querySelectorAll("[data-sampler][points]")].map((one) => [one, pairs(one.getAttribute("points"))]);
  const symbols = (picture) =>
    [...picture.querySelectorAll("[data-sampler] > [transform]")].map((one) => [
      one,
      pairs(one.getAttribute("transform").slice("translate(".length, -1)),
    ]);
  const drawn = new Map();

  function rounded(low, high) {
    const rough = (high - low) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(at * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  }

  function fit(picture) {
    const { up, box } = told[picture.dataset.figure];
    if (!up || !picture.querySelector("[data-sampler]")) return;
    const [low, high, least, zero, strong, suffix] = up;
    const [left, top, right, bottom] = box;
    const levels = picture.querySelector(".levels");
    if (!drawn.has(picture))
      drawn.set(picture, { outlines: outlines(picture), symbols: symbols(picture), levels: levels.innerHTML });
    const before = drawn.get(picture);
    const isShown = ([one]) => !one.closest("[hidden]");
    const values = before.outlines
      .concat(before.symbols)
      .filter(isShown)
      .flatMap(([, points]) => points.map(([, y]) => low + ((bottom - y) / (bottom - top)) * (high - low)));
    let [least_, most] = [low, high];
    const isWhole = before.outlines.concat(before.symbols).every(isShown);
    if (!isWhole && values.length) {
      if (zero) values.push(0);
      [least_, most] = [Math.min(...values), Math.max(...values)];
      const span = Math.max(1.1 * (most - least_), least, 0.1 * Math.max(Math.abs(least_), Math.abs(most)), 1e-9);
      const middle = (least_ + most) / 2;
      [least_, most] = zero && least_ === 0 && !strong ? [0, span] : [middle - span / 2, middle + span / 2];
    }
    const y = (value) => Math.round(10 * (bottom - ((value - least_) / (most - least_)) * (bottom - top))) / 10;
    const moved = (at) => y(low + ((bottom - at) / (bottom - top)) * (high - low));
    for (const [one, points] of before.outlines)
      one.setAttribute("points", points.map(([x, at]) => `${x},${isWhole ? at : moved(at)}`).join(" "));
    for (const [one, [[x, at]]] of before.symbols)
      one.setAttribute("transform", `translate(${x},${isWhole ? at : moved(at)})`);
    if (isWhole) {
      levels.innerHTML = before.levels;
      return;
    }
    const [ticks, digits] = rounded(least_, most);
    levels.replaceChildren();
    for (const tick of ticks) {
      const line = { class: strong && Math.abs(tick) < 1e-12 ? "zero" : "grid", d: `M${left} ${y(tick)}H${right}` };
      const text = inSvg("text", { class: "tick", x: left - 7, y: y(tick) + 4, "text-anchor": "end" });
      text.textContent = tick.toFixed(digits).replace("-", "\u2212") + suffix;
      levels.append(inSvg("path", line), text);
    }
  }
  document.addEventListener("marline:shown", () => pictures.forEach(fit));
})();
