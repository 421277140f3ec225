"use strict";
// The study's table: sorted by its headers, filtered by a field.
(() => {
  const table = document.getElementById("table"), body = table.tBodies[0], rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells], menu = document.getElementById("sort");
  const language = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function sort(place, direction) {
    const isNumber = headers[place].dataset.kind === "number", sign = direction === "descending" ? -1 : 1;
    const of = row => row.cells[place].dataset.value ?? "";
    const sorted = [...rows].sort((a, b) => {
      const x = of(a), y = of(b);
      if (x === "" || y === "") return (x === "") - (y === ""); // What has no value comes last in both directions.
      return sign * (isNumber ? x - y : language.compare(x, y));
    });
    body.append(...sorted);
    headers.forEach((header, at) => header.dataset.kind && header.setAttribute("aria-sort", at === place ? direction : "none"));
  }

  headers.forEach((header, place) => {
    const button = header.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort"), first = header.dataset.kind === "number" ? "descending" : "ascending";
      sort(place, now === "none" ? first : now === "ascending" ? "descending" : "ascending");
    });
    for (const direction of ["ascending", "descending"])
      menu.add(new Option(`${button.textContent} ${direction === "ascending" ? "▲" : "▼"}`, `${place} ${direction}`));
  });
  menu.addEventListener("change", () => sort(+menu.value.split(" ")[0], menu.value.split(" ")[1]));

  const find = document.getElementById("find"), count = document.getElementById("count");
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
    count.textContent = words.length ? `${rows.filter(row => !row.hidden).length} of ${rows.length} rows` : "";
  });
})();
