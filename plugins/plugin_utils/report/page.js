(() => {
  "use strict";
  const tools = document.querySelector(".tools");
  if (!tools) return;
  const filter = document.getElementById("filter");
  const trouble = document.getElementById("trouble");
  const found = document.getElementById("found");
  const body = document.querySelector("#overview tbody");
  const rows = [...body.rows];
  const vips = new Map([...document.querySelectorAll(".vip")].map(vip => [vip.dataset.v, vip]));
  tools.hidden = false;

  // Names, addresses, MAC addresses and states, in small letters; gathered when they are first needed.
  let texts = null;
  const look = () => {
    texts ??= rows.map(row => (row.textContent + " " + vips.get(row.dataset.v).textContent).toLowerCase());
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      const vip = vips.get(row.dataset.v);
      const is = words.every(word => texts[at].includes(word)) &&
        (!trouble.checked || vip.dataset.r === "bad" || vip.dataset.r === "warn");
      row.hidden = vip.hidden = !is;
      shown += is;
    });
    found.value = shown === rows.length ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} VIPs`;
  };
  filter.addEventListener("input", look);
  trouble.addEventListener("change", look);
  tools.addEventListener("submit", event => event.preventDefault());
  const all = open => vips.forEach(vip => { if (!vip.hidden) vip.open = open; });
  document.getElementById("open").addEventListener("click", () => all(true));
  document.getElementById("close").addEventListener("click", () => all(false));

  const order = new Intl.Collator("en", { numeric: true });
  const heads = [...document.querySelectorAll("#overview thead th")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const number = rows[0].cells[column].dataset.n !== undefined;
      const up = head.ariaSort ? head.ariaSort === "descending" : !number;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => number ? Number(row.cells[column].dataset.n) : row.cells[column].textContent;
      const keys = new Map(rows.map(row => [row, key(row)]));
      const by = (a, b) => number ? keys.get(a) - keys.get(b) : order.compare(keys.get(a), keys.get(b));
      body.append(...[...rows].sort((a, b) => up ? by(a, b) : by(b, a)));
    });
  });
})();
