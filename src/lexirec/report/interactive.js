// What moves in a report: tips, series that can be hidden, and maps that can be zoomed. Reads only what is in the page; asks for nothing.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const showTip = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + scrollX + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + scrollY + "px";
  };
  const hideTip = () => { tip.hidden = true; };

  // Charts: without this script each mark shows its <title>; with it, at once and larger.
  for (const mark of document.querySelectorAll(".chart [data-mark]")) {
    const title = mark.querySelector("title");
    const text = title.textContent;
    title.remove();
    mark.addEventListener("pointerenter", (event) => showTip(text, event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hideTip);
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      showTip(text, box.right, box.bottom);
    });
    mark.addEventListener("blur", hideTip);
  }
  for (const button of document.querySelectorAll(".chart .legend button")) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!off));
      for (const part of button.closest(".chart").querySelectorAll(`g[data-series="${button.dataset.series}"]`)) {
        part.style.display = off ? "none" : "";
      }
    });
  }

  const maps = [];
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return Array.from({ length: 10 }, (_, i) => style.getPropertyValue(`--class-${i}`).trim());
  };

  const makeMap = (host) => {
    const read = (id) => JSON.parse(document.getElementById(id).textContent);
    const items = read(host.dataset.items);
    const places = read(host.dataset.places);
    const canvas = host.querySelector("canvas");
    const pen = canvas.getContext("2d");
    const shown = new Array(10).fill(true);
    const view = { scale: 1, x: 0, y: 0 };  // screen = place * unit * scale + shift
    let width = 0, height = 0, unit = 1, marked = -1;

    const toScreen = (i) => [
      (places.x[i] * unit - width / 2 + places.left * unit) * view.scale + width / 2 + view.x,
      (places.y[i] * unit - height / 2 + places.top * unit) * view.scale + height / 2 + view.y,
    ];
    const draw = () => {
      const palette = colours();
      const ratio = devicePixelRatio || 1;
      width = host.querySelector(".stage").clientWidth;
      height = Math.round(Math.min(width * 0.72, innerHeight * 0.85));
      canvas.style.height = height + "px";
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      unit = Math.min(width, height) / 10800;
      places.left = (width / unit - 10000) / 2;
      places.top = (height / unit - 10000) / 2;
      const size = Math.min(2.6 * Math.sqrt(view.scale), 7);
      pen.globalAlpha = 0.85;
      for (let i = 0; i < places.x.length; i++) {
        if (!shown[items.class[i]]) continue;
        const [x, y] = toScreen(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        pen.fillStyle = palette[items.class[i]];
        pen.beginPath();
        pen.arc(x, y, size, 0, 2 * Math.PI);
        pen.fill();
      }
      if (marked >= 0) {
        const [x, y] = toScreen(marked);
        pen.globalAlpha = 1;
        pen.strokeStyle = getComputedStyle(host).color;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(x, y, size + 3.5, 0, 2 * Math.PI);
        pen.stroke();
      }
    };
    const nearest = (x, y) => {
      let found = -1, best = 14 * 14;
      for (let i = 0; i < places.x.length; i++) {
        if (!shown[items.class[i]]) continue;
        const [a, b] = toScreen(i);
        const distance = (a - x) ** 2 + (b - y) ** 2;
        if (distance < best) { best = distance; found = i; }
      }
      return found;
    };
    const zoom = (factor, x, y) => {
      const next = Math.max(1, Math.min(40, view.scale * factor));
      const real = next / view.scale;
      view.x = (x - width / 2) * (1 - real) + view.x * real;
      view.y = (y - height / 2) * (1 - real) + view.y * real;
      view.scale = next;
      if (next === 1) { view.x = 0; view.y = 0; }
      draw();
    };
    let held = null;
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      if (held) {
        view.x += x - held[0];
        view.y += y - held[1];
        held = [x, y];
        marked = -1;
        hideTip();
        draw();
        return;
      }
      const found = nearest(x, y);
      if (found >= 0) {
        const count = items.events[found];
        showTip(`${items.title[found]}\n${count.toLocaleString()} training event${count === 1 ? "" : "s"}`, event.clientX, event.clientY);
      } else hideTip();
      if (found !== marked) { marked = found; draw(); }
    });
    canvas.addEventListener("pointerdown", (event) => {
      const box = canvas.getBoundingClientRect();
      if (view.scale === 1) return;
      held = [event.clientX - box.left, event.clientY - box.top];
      canvas.setPointerCapture(event.pointerId);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { held = null; });
    canvas.addEventListener("pointerleave", () => { hideTip(); marked = -1; draw(); });
    // With a key, so that a page with maps still scrolls.
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * 0.002), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => {
      const box = canvas.getBoundingClientRect();
      zoom(event.shiftKey ? 0.5 : 2, event.clientX - box.left, event.clientY - box.top);
    });
    for (const button of host.querySelectorAll("button")) {
      button.disabled = false;
      button.addEventListener("click", () => {
        if (button.dataset.zoom) {
          zoom(Number(button.dataset.zoom), width / 2, height / 2);
          return;
        }
        const number = Number(button.dataset.class);
        shown[number] = !shown[number];
        button.setAttribute("aria-pressed", String(shown[number]));
        draw();
      });
    }
    host.querySelector(".still").hidden = true;
    host.querySelector(".stage").hidden = false;
    host.querySelector(".keys").hidden = false;
    draw();
    return draw;
  };
  for (const host of document.querySelectorAll(".map")) maps.push(makeMap(host));
  const redraw = () => maps.forEach((draw) => draw());
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
