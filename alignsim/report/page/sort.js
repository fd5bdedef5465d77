// Sorts a table by the column whose heading is pressed, and in reverse when it is pressed again. Empty cells come last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const numbers = [...body.rows].every((row) => value(row) === "" || Number.isFinite(Number(value(row))));
    const compare = (a, b) => (numbers ? Number(a) - Number(b) : a.localeCompare(b));
    const sorted = [...body.rows].sort((first, second) => {
      const [a, b] = [value(first), value(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return rising ? compare(a, b) : compare(b, a);
    });
    body.append(...sorted);
  });
}
