"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const drawn = new Map(); // figure -> { view, chart }
  const spans = new Map(); // zoom group -> { full, shown }
  const figures = [...document.querySelectorAll("figure[data-chart]")];

  // Charts are drawn in CSS variables, so that a change of theme, or paper, needs no new drawing.
  const named = new Set(page.colours.map((name) => "@" + name));
  const coloured = (spec) => {
    if (Array.isArray(spec)) return spec.map(coloured);
    if (spec && typeof spec === "object") {
      return Object.fromEntries(Object.entries(spec).map(([name, one]) => [name, coloured(one)]));
    }
    return named.has(spec) ? `var(--${spec.slice(1)})` : spec;
  };
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const fixed = (svg) => svg.replace(/var\(--(\w+)\)/g, (_, name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  });

  const rows = (columns) => {
    const names = Object.keys(columns);
    return names.length ? columns[names[0]].map((_, at) => Object.fromEntries(names.map((n) => [n, columns[n][at]]))) : [];
  };

  const draw = async (figure) => {
    const chart = page.charts[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    const config = coloured(page.config);
    config.legend = { ...config.legend, disable: true };
    config.autosize = { type: "fit-x", contains: "padding" };
    const datasets = Object.fromEntries(Object.entries(chart.sets).map(([name, columns]) => [name, rows(columns)]));
    const spec = { ...coloured(chart.spec), datasets, width: plot.clientWidth, height: chart.height, config };
    const { view } = await vegaEmbed(plot, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" } });
    drawn.set(figure, { view, chart });
    figure.view = view;
    plot.style.minHeight = "";
    if (chart.zoom) show(figure);
    await view.runAsync();
    widths.observe(plot);
  };
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const { view } = drawn.get(target.parentElement);
      if (target.clientWidth && view.width() !== target.clientWidth) view.width(target.clientWidth).runAsync();
    }
  });

  // Zoom: charts of a group share x; y is each chart's own.
  const group = (name) => figures.filter((figure) => page.charts[figure.dataset.chart].zoom?.group === name);
  for (const figure of figures) {
    const zoom = page.charts[figure.dataset.chart].zoom;
    if (!zoom) continue;
    const known = spans.get(zoom.group);
    const full = known ? [Math.min(known.full[0], zoom.x[0]), Math.max(known.full[1], zoom.x[1])] : zoom.x;
    spans.set(zoom.group, { full, shown: full });
    figure.y = zoom.y;
  }
  const show = (figure) => {
    const { view, chart } = drawn.get(figure);
    const { shown } = spans.get(chart.zoom.group);
    view.signal("x0", shown[0]).signal("x1", shown[1]);
    if (chart.zoom.y) view.signal("y0", figure.y[0]).signal("y1", figure.y[1]);
  };
  const zoomTo = (name, from, to) => {
    const span = spans.get(name);
    const [first, last] = span.full;
    const width = Math.min(Math.max(to - from, (last - first) * 1e-5), last - first);
    const start = Math.min(Math.max(from, first), last - width);
    span.shown = [start, start + width];
    for (const figure of group(name)) {
      if (!drawn.has(figure)) continue;
      show(figure);
      drawn.get(figure).view.runAsync();
    }
    label(name);
  };
  const reset = (name) => {
    for (const figure of group(name)) figure.y = page.charts[figure.dataset.chart].zoom.y;
    zoomTo(name, ...spans.get(name).full);
  };
  const scale = (name, factor, at) => {
    const [from, to] = spans.get(name).shown;
    const middle = at ?? (from + to) / 2;
    zoomTo(name, middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  const move = (name, part) => {
    const [from, to] = spans.get(name).shown;
    zoomTo(name, from + (to - from) * part, to + (to - from) * part);
  };
  const label = (name) => {
    const { full, shown } = spans.get(name);
    const whole = full[0] === shown[0] && full[1] === shown[1];
    const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(shown[1] - shown[0]))));
    for (const tool of document.querySelectorAll(`.zoom[data-group="${name}"] .span`)) {
      tool.textContent = whole ? "drag a chart to zoom" : `${shown[0].toFixed(digits)} to ${shown[1].toFixed(digits)} s`;
    }
  };
  const button = (words, title, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  };
  for (const tool of document.querySelectorAll(".zoom")) {
    const name = tool.dataset.group;
    const span = document.createElement("span");
    span.className = "span";
    tool.append(
      span,
      button("−", "Zoom out", () => scale(name, 2)),
      button("+", "Zoom in", () => scale(name, 0.5)),
      button("‹", "Earlier", () => move(name, -0.5)),
      button("›", "Later", () => move(name, 0.5)),
      button("All", "Show everything", () => reset(name)),
    );
    label(name);
  }

  const zooming = (figure) => {
    const plot = figure.querySelector(".plot");
    const { zoom } = page.charts[figure.dataset.chart];
    plot.classList.add("zooms");
    plot.tabIndex = 0;
    const place = (event) => {
      const { view } = drawn.get(figure);
      const area = plot.querySelector("svg, canvas").getBoundingClientRect();
      const [left, top] = view.origin();
      const [width, height] = [view.signal("width"), view.signal("height")];
      const clamp = (value, most) => Math.min(Math.max(value, 0), most);
      return {
        x: clamp(event.clientX - area.left - left, width), y: clamp(event.clientY - area.top - top, height),
        left: area.left - plot.getBoundingClientRect().left + left, top: area.top - plot.getBoundingClientRect().top + top,
        width, height, view,
      };
    };
    let from = null;
    let pick = null;
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !drawn.has(figure)) return;
      from = place(event);
      if (event.pointerType === "mouse") plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = place(event);
      if (!pick && Math.abs(to.x - from.x) < 5) return;
      if (!pick) plot.append((pick = Object.assign(document.createElement("div"), { className: "pick" })));
      const tall = zoom.y && Math.abs(to.y - from.y) > 12;
      const [y, height] = tall ? [Math.min(from.y, to.y), Math.abs(to.y - from.y)] : [0, to.height];
      Object.assign(pick.style, {
        left: `${to.left + Math.min(from.x, to.x)}px`, width: `${Math.abs(to.x - from.x)}px`, top: `${to.top + y}px`, height: `${height}px`,
      });
    });
    const end = (event) => {
      const begun = from;
      from = null;
      if (!pick) return;
      pick.remove();
      pick = null;
      if (event.type === "pointercancel") return;
      const to = place(event);
      const x = to.view.scale("x");
      if (zoom.y && Math.abs(to.y - begun.y) > 12) {
        const y = to.view.scale("y");
        figure.y = [y.invert(begun.y), y.invert(to.y)].sort((a, b) => a - b);
      }
      zoomTo(zoom.group, ...[x.invert(begun.x), x.invert(to.x)].sort((a, b) => a - b));
    };
    plot.addEventListener("pointerup", end);
    plot.addEventListener("pointercancel", end);
    plot.addEventListener("dblclick", () => reset(zoom.group));
    plot.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // the wheel alone scrolls the page
      event.preventDefault();
      const at = place(event);
      scale(zoom.group, (event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, at.view.scale("x").invert(at.x));
    });
    plot.addEventListener("keydown", (event) => {
      const acts = {
        "+": () => scale(zoom.group, 0.5), "=": () => scale(zoom.group, 0.5), "-": () => scale(zoom.group, 2),
        ArrowLeft: () => move(zoom.group, -0.25), ArrowRight: () => move(zoom.group, 0.25),
        0: () => reset(zoom.group), Escape: () => reset(zoom.group),
      };
      if (!acts[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      acts[event.key]();
    });
  };

  // The legend hides and shows series.
  const legend = (figure) => {
    for (const key of figure.querySelectorAll(".key")) {
      key.addEventListener("click", () => {
        const one = drawn.get(figure);
        if (!one) return;
        const hidden = key.getAttribute("aria-pressed") === "true";
        key.setAttribute("aria-pressed", String(!hidden));
        const off = [...figure.querySelectorAll('.key[aria-pressed="false"]')].map((other) => other.dataset.series);
        one.view.signal("off", off).runAsync();
      });
    }
  };

  // Data to take away.
  const save = (name, type, content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    const words = String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(words) ? "'" + words : words; // no formula in a spreadsheet
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (chart) => {
    const names = Object.keys(chart.headings);
    const lines = [names.map((name) => cell(chart.headings[name]))];
    const columns = chart.sets.rows;
    for (let at = 0; at < (columns[names[0]] ?? []).length; at++) lines.push(names.map((name) => cell(columns[name][at])));
    return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
  };
  const tools = (figure) => {
    const chart = page.charts[figure.dataset.chart];
    figure.csv = () => csv(chart);
    figure.querySelector(".tools").append(
      button("CSV", "Save the data as CSV", () => save(`${chart.file}.csv`, "text/csv", csv(chart))),
      button("SVG", "Save the chart as SVG", async () => {
        const one = drawn.get(figure);
        if (one) save(`${chart.file}.svg`, "image/svg+xml", fixed(await one.view.toSVG()));
      }),
    );
  };

  for (const figure of figures) {
    legend(figure);
    tools(figure);
    if (page.charts[figure.dataset.chart].zoom) zooming(figure);
  }
  for (const copy of document.querySelectorAll(".copy")) {
    copy.addEventListener("click", async () => {
      const shown = copy.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(shown.textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(shown); // a page from a file may not write to the clipboard
        copy.textContent = "Ctrl+C";
      }
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    });
  }

  const all = async () => {
    for (const figure of figures) {
      try {
        await draw(figure);
      } catch (error) {
        console.error(figure.dataset.chart, error);
      }
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.ready = "true";
  };
  all();
})();
