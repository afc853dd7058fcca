/* Sorting and searching of tables; without it they are plain tables, all rows shown. */
"use strict";
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  for (const tools of document.querySelectorAll(".tools[data-table]")) {
    const rows = [...document.getElementById(tools.dataset.table).tBodies[0].rows];
    const search = tools.querySelector("input");
    const choice = tools.querySelector("select");
    const found = tools.querySelector("output");
    const form = (text) => text.normalize("NFC").toLowerCase();
    const texts = rows.map((row) => form(row.textContent));
    const show = () => {
      const wanted = form(search.value.trim());
      let count = 0;
      rows.forEach((row, index) => {
        row.hidden = !(texts[index].includes(wanted) && (!choice || !choice.value || row.dataset.right === choice.value));
        count += row.hidden ? 0 : 1;
      });
      found.value = `${count} of ${rows.length} shown`;
    };
    search.addEventListener("input", show);
    if (choice) choice.addEventListener("change", show);
    tools.hidden = false;
    show();
  }
})();
