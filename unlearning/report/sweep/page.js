"use strict";

// Tables that sort: the heading's button turns the order round; what was not measured stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
      rows.sort((one, other) => {
        const a = key(one), b = key(other);
        if (a === "" || b === "") return (a === "") - (b === "");
        const x = Number(a), y = Number(b);
        const numbers = !Number.isNaN(x) && !Number.isNaN(y);
        const order = numbers ? (x > y) - (x < y) : a.localeCompare(b, undefined, { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}

// The best setting within a budget: cards come best first, so the first that fits is the answer.
for (const block of document.querySelectorAll("section.block")) {
  const form = block.querySelector("form.budget");
  if (!form) continue;
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  const cards = [...block.querySelectorAll(".best")];
  const plot = block.querySelector("svg[data-low]");
  const limit = (name) => {
    const input = form.elements[name];
    return input && input.value.trim() !== "" ? Number(input.value) : Infinity;
  };
  const choose = () => {
    const rise = limit("rise"), broken = limit("broken"), slack = 1e-9;
    const fits = (card) =>
      Number(card.dataset.rise) <= rise + slack && Number(card.dataset.broken) <= broken + slack;
    const chosen = cards.find(fits);
    for (const card of cards) card.hidden = card !== chosen;
    block.querySelector(".none-fits").hidden = chosen !== undefined;
    if (chosen) {
      const past = chosen.dataset.riseHigh !== "" && Number(chosen.dataset.riseHigh) > rise;
      chosen.querySelector(".past").hidden = !past;
    }
    for (const mark of block.querySelectorAll("g.mark")) {
      mark.classList.toggle("chosen", chosen !== undefined && mark.dataset.setting === chosen.dataset.setting);
    }
    if (plot) move(plot, rise);
  };
  form.addEventListener("input", choose);
  choose();
}

function move(plot, value) {
  const { low, high, start, end, fold } = Object.fromEntries(
    Object.entries(plot.dataset).map(([name, text]) => [name, Number(text)]),
  );
  const bent = (v) => (fold ? Math.asinh(v / fold) : v);
  const line = plot.querySelector("line.budget");
  const inside = value >= low && value <= high;
  line.setAttribute("visibility", inside ? "visible" : "hidden");
  if (!inside) return;
  const x = start + ((bent(value) - bent(low)) / (bent(high) - bent(low))) * (end - start);
  line.setAttribute("x1", x.toFixed(1));
  line.setAttribute("x2", x.toFixed(1));
}
