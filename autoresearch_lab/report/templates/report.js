"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  // Figures name their colours and fonts by CSS variable; Plotly wants values.
  function resolve(value, style) {
    if (typeof value === "string") {
      const match = /^var\((--[a-z-]+)\)$/.exec(value);
      return match ? style.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    }
    return value;
  }

  function draw() {
    const style = getComputedStyle(root);
    const printing = root.classList.contains("printing");
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const layout = resolve(figure.layout, style);
      const data = resolve(figure.data, style);
      const narrow = window.innerWidth < 560;
      if (narrow || printing) layout.font.size = 10.5;
      if (narrow) {
        // No room for words inside the plot: tables hold the numbers, a tap on a point shows its name.
        layout.annotations = [];
        for (const trace of data) if (id === "roofline" && trace.mode === "markers+text") trace.mode = "markers";
      }
      if (printing) layout.width = Math.min(place.clientWidth, 660);
      Plotly.react(place, data, layout, { responsive: true, displayModeBar: false });
    }
  }

  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("beforeprint", () => { root.classList.add("printing"); draw(); });
  window.addEventListener("afterprint", () => { root.classList.remove("printing"); draw(); });
})();
