// Tables of class "sortable": a head with data-sort ("number" or "text") becomes a button that sorts the rows of the body of class "rows".
// Other bodies stay where they are. A cell may give the number to sort by in data-value; cells without one come last.
"use strict";

(() => {
  const keyOf = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const text = cell.dataset.value ?? cell.textContent.trim();
    if (!numeric) return text;
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  };

  const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));

  const sort = (table, head, direction) => {
    const body = table.querySelector("tbody.rows");
    const numeric = head.dataset.sort === "number";
    const keyed = [...body.rows].map((row) => [keyOf(row, head.cellIndex, numeric), row]);
    const there = keyed.filter(([key]) => key !== null);
    there.sort(([one], [other]) => (direction === "descending" ? compare(other, one) : compare(one, other)));
    const missing = keyed.filter(([key]) => key === null);
    body.append(...[...there, ...missing].map(([, row]) => row));
  };

  const onClick = (table, head) => {
    const first = head.dataset.sort === "number" ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    const direction = head.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    sort(table, head, direction);
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.tHead.querySelectorAll("th[data-sort]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => onClick(table, head));
    }
  }
})();
