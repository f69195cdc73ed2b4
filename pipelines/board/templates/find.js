for (const table of document.querySelectorAll("table.find")) {
  const groups = [...table.tBodies].map((body) => [...body.rows]);
  const rows = groups.flat().filter((row) => !row.matches(".group"));
  if (rows.length < 8) continue;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  label.className = "finder";
  label.append("Find ", input, " ", count);
  (table.closest(".scroll") || table).before(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    for (const group of groups) {
      const found = group.some((row) => !row.matches(".group") && !row.hidden);
      for (const row of group) if (row.matches(".group")) row.hidden = !found;
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
      const order = (one, other) =>
        isNaN(one) || isNaN(other) || one === "" || other === "" ? one.localeCompare(other) : one - other;
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([one], [other]) => sign * order(one, other));
      table.tBodies[0].append(...rows.map(([, row]) => row));
      for (const each of heads) each.removeAttribute("aria-sort");
      head.ariaSort = sign > 0 ? "ascending" : "descending";
    });
  });
}
