"""The look and the one script of an HTML report: no outside font, image or request; readable without either."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root {
  color-scheme: light dark;
  --page: #faf9f6; --sheet: #ffffff; --quiet: #f3f1ec; --ink: #23262b; --soft: #5a5e66; --rule: #dedad1;
  --edge: #b9b3a6; --cause: #9b2c18; --cause-tint: #fbece7; --maybe: #735000; --maybe-tint: #faf1dc;
  --link: #1d4f86; --hit: #fff0b8;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Palatino, "Source Serif 4",
    Georgia, "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --sheet: #1e2125; --quiet: #1a1c20; --ink: #e5e2db; --soft: #a5a8ad; --rule: #33373d;
    --edge: #565c65; --cause: #f4998a; --cause-tint: #36201c; --maybe: #e6bd66; --maybe-tint: #2f281a;
    --link: #9cc4ef; --hit: #55471a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1.0625rem/1.55 var(--serif);
  overflow-wrap: anywhere; }
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3.25rem; }
footer { padding-top: 2.5rem; padding-bottom: 3rem; color: var(--soft); font: .8125rem/1.5 var(--sans); }
a { color: var(--link); text-underline-offset: .15em; text-decoration-thickness: 1px; }
code { font: .875em/1.45 var(--mono); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.eyebrow { margin: 0; color: var(--soft); font: 600 .75rem/1.4 var(--sans); letter-spacing: .09em;
  text-transform: uppercase; }
h1 { margin: .35rem 0 .9rem; font-size: 2.125rem; font-weight: 600; line-height: 1.18; letter-spacing: -.012em;
  text-wrap: balance; }
.lead { margin: 0; max-width: 44rem; font-size: 1.25rem; line-height: 1.5; text-wrap: pretty; }
h2 { margin: 3rem 0 .75rem; font-size: 1.3125rem; font-weight: 600; line-height: 1.3; }
h3 { margin: 0; font: 600 .9375rem/1.4 var(--sans); }
.note { margin: 0 0 1rem; max-width: 44rem; color: var(--soft); font: .875rem/1.5 var(--sans); }
.mark { display: inline-block; padding: .06rem .45rem; border-radius: .25rem; border: 1px solid currentColor;
  font: 600 .6875rem/1.45 var(--sans); letter-spacing: .04em; white-space: nowrap; vertical-align: .1em;
  color: var(--soft); }
.mark.cause, .mark.error { color: var(--cause); background: var(--cause-tint); }
.mark.note { margin: 0; max-width: none; font: 600 .6875rem/1.45 var(--sans); }
.mark.maybe, .mark.warning { color: var(--maybe); background: var(--maybe-tint); }

.card { margin: 1rem 0; padding: 1.1rem 1.35rem 1.2rem; background: var(--sheet); border: 1px solid var(--rule);
  border-radius: .5rem; }
.card.proven { border-left: .25rem solid var(--cause); }
.card h3 { display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: baseline; font-size: 1rem; }
.card h3 code { font-size: .9375rem; font-weight: 600; }
.card p { margin: .55rem 0 0; }
.moved { display: flex; flex-wrap: wrap; gap: .25rem .7rem; align-items: baseline; margin: .6rem 0 0; }
.moved .arrow { color: var(--soft); }
.who { color: var(--soft); font: .8125rem/1.4 var(--sans); }
.proof { color: var(--soft); font: .875rem/1.5 var(--sans); }

.chain { margin: 1.1rem 0 0; padding: 0; list-style: none; font: .9375rem/1.5 var(--sans); }
.chain li { position: relative; padding: 0 0 .85rem 1.6rem; }
.chain li:last-child { padding-bottom: 0; }
.chain li::before { content: ""; position: absolute; left: 4px; top: .3rem; width: 12px; height: 12px;
  border: 2px solid var(--cause); border-radius: 50%; background: var(--sheet); }
.chain li.root::before { background: var(--cause); }
.chain li::after { content: ""; position: absolute; left: 9px; top: calc(.3rem + 12px); bottom: -.3rem;
  width: 2px; background: var(--cause); }
.chain li:last-child::after { content: none; }
.chain li.end::before { border-radius: 2px; }
.chain .who { display: block; }

.stack { position: relative; }
.heads, .layer > summary { display: grid; grid-template-columns: 10.5rem 1fr 1fr; gap: 0 .6rem; }
.one .heads, .one .layer > summary { grid-template-columns: 10.5rem 1fr; }
.heads { margin: 0 0 .4rem; padding-left: 1.75rem; font: 600 .875rem/1.6 var(--sans); }
.heads .who { display: block; font-weight: 400; }
.layer { position: relative; padding-left: 1.75rem; margin-bottom: .3rem; }
.layer > summary { align-items: stretch; cursor: pointer; list-style: none; border-radius: .4rem; }
.layer > summary::-webkit-details-marker { display: none; }
.layer h3 { display: flex; align-items: center; align-self: start; gap: .4rem; padding-top: .55rem;
  font-size: .875rem; }
.layer h3::before { content: ""; flex: none; width: .4rem; height: .4rem; border: solid var(--soft);
  border-width: 0 1.5px 1.5px 0; transform: rotate(-45deg); transition: transform .12s; }
.layer[open] > summary h3::before { transform: rotate(45deg); }
.same > summary h3 { font-weight: 400; color: var(--soft); }
.slab { padding: .55rem .8rem; border: 1px solid var(--rule); border-radius: .4rem; background: var(--quiet);
  color: var(--soft); font: .8125rem/1.5 var(--sans); }
.slab.both { grid-column: span 2; text-align: center; }
.one .slab.both { grid-column: auto; text-align: left; }
.slab p { margin: 0; }
.slab.differs { border-color: var(--edge); background: var(--sheet); color: var(--ink); }
.slab.fails { border: 2px solid var(--cause); padding: calc(.55rem - 1px) calc(.8rem - 1px);
  background: var(--cause-tint); color: var(--ink); }
.slab .tie { color: var(--cause); }
.slab.unseen { border-style: dashed; background: transparent; }
.slab dl { display: grid; grid-template-columns: minmax(0, auto) minmax(0, 1fr); gap: .1rem .6rem; margin: .3rem 0 0; }
.slab dt { color: var(--soft); }
.slab dd { margin: 0; font: .8125rem/1.5 var(--mono); }
.slab .hot { color: var(--cause); font-weight: 600; }
.rail::before { content: ""; position: absolute; left: 9px; width: 2px; top: 0; bottom: -.3rem;
  background: var(--cause); }
.rail.first::before { top: calc(.55rem + 8px); }
.rail.last::before { bottom: auto; height: calc(.55rem + 8px); }
.rail.first.last::before { content: none; }
.linked::after { content: ""; position: absolute; left: 4px; top: calc(.55rem + 4px); width: 12px; height: 12px;
  border: 2px solid var(--cause); border-radius: 50%; background: var(--page); }
.linked.origin::after { background: var(--cause); }

.facts { padding: .4rem 0 1rem; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; font: .8125rem/1.5 var(--sans); }
caption { padding: .4rem 0; text-align: left; color: var(--soft); }
th, td { padding: .32rem .6rem .32rem 0; text-align: left; vertical-align: top; border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
tbody th { font: .8125rem/1.5 var(--mono); font-weight: 400; }
td { font-family: var(--mono); }
td .mark, th .mark, td .who { font-family: var(--sans); }
tr.follows th { padding-left: 1.1rem; color: var(--soft); }
tr.follows th::before { content: "↳ "; margin-left: -1rem; }
tr.equal th, tr.equal td { color: var(--soft); }
.gone { color: var(--soft); font-family: var(--sans); font-style: italic; }
.fold { margin: .6rem 0; }
.fold > summary { padding: .25rem 0; cursor: pointer; color: var(--soft); font: .875rem/1.5 var(--sans); }
.section { margin-top: .75rem; border-top: 1px solid var(--rule); }
.section > summary { padding: .7rem 0; cursor: pointer; }
.section > summary h2 { display: inline; margin: 0; font: 600 1rem/1.5 var(--sans); }
.section[open] { padding-bottom: 1rem; }
.tail { margin-top: 3rem; border-bottom: 1px solid var(--rule); }
.list { margin: 0; padding: 0; list-style: none; font: .9375rem/1.5 var(--sans); }
.list > li { padding: .45rem 0; }
.list > li + li { border-top: 1px solid var(--rule); }
.finding { font: .9375rem/1.5 var(--sans); }
.finding p, .card .finding p { margin: .2rem 0; }
.card > :first-child { margin-top: 0; }

.search { margin: 1.5rem 0 1.1rem; }
.search label { display: block; margin-bottom: .25rem; font: 600 .8125rem/1.4 var(--sans); }
.search input { width: 100%; max-width: 26rem; padding: .5rem .7rem; color: var(--ink); background: var(--sheet);
  border: 1px solid var(--edge); border-radius: .4rem; font: .9375rem/1.4 var(--sans); }
.search output { display: block; min-height: 1.4em; margin-top: .25rem; color: var(--soft);
  font: .8125rem/1.4 var(--sans); }
[hidden] { display: none !important; }

.strip { display: flex; flex-wrap: wrap; gap: .3rem; margin: .7rem 0 0; padding: 0; list-style: none;
  font: .75rem/1.4 var(--sans); }
.strip li { padding: .12rem .5rem; border: 1px solid var(--rule); border-radius: .25rem; background: var(--quiet);
  color: var(--soft); }
.strip li.moves { border-color: var(--edge); background: var(--sheet); color: var(--ink); font-weight: 600; }
.strip li.fails { border-color: var(--cause); background: var(--cause-tint); color: var(--cause); font-weight: 600; }
.people { color: var(--soft); font: .875rem/1.5 var(--sans); }

.map { display: flex; flex-wrap: wrap; gap: 3px; margin: .9rem 0 1.1rem; }
.map span { width: 11px; height: 11px; border-radius: 2px; border: 1px solid var(--edge); background: var(--quiet); }
.map .moves { border-color: var(--maybe); background: var(--maybe); }
.map .fails { border-color: var(--cause); background: var(--cause); }
.map .lost { border-style: dashed; background: transparent; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0 0 1rem; color: var(--soft); font: .8125rem/1.5 var(--sans); }
.key .map { display: inline-flex; margin: 0 .35rem 0 0; vertical-align: -1px; }
.grid th, .grid td { padding-right: .8rem; }
.grid thead th:first-child { width: 30%; }
.grid .count { color: var(--soft); font: .8125rem/1.5 var(--sans); }
.grid .same { color: var(--edge); }
.grid .fails { color: var(--cause); font-weight: 600; }
.grid td span { display: block; }

@media (max-width: 44rem) {
  body { font-size: 1rem; }
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.75rem; }
  h1 { font-size: 1.625rem; }
  .lead { font-size: 1.125rem; }
  .card { padding: .9rem 1rem 1rem; }
  .heads, .layer > summary { grid-template-columns: 1fr 1fr; gap: .2rem .4rem; }
  .one .heads, .one .layer > summary { grid-template-columns: 1fr; }
  .heads > :first-child { display: none; }
  .heads, .layer { padding-left: 1.35rem; }
  .layer { margin-bottom: .7rem; }
  .rail::before { bottom: -.7rem; }
  .rail.first::before { top: 10px; }
  .rail.last::before { height: 10px; }
  .linked::after { top: 4px; }
  .layer h3 { grid-column: 1 / -1; padding-top: 0; }
  .slab { padding: .45rem .6rem; }
  .slab.fails { padding: calc(.45rem - 1px) calc(.6rem - 1px); }
  .slab.both { text-align: left; }
  .slab dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .slab dd { margin-bottom: .25rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .pair tbody tr { display: grid; grid-template-columns: 1fr 1fr; padding: .35rem 0; border-top: 1px solid var(--rule); }
  .pair tbody th { grid-column: 1 / -1; }
  .pair tbody th, .pair tbody td { border: 0; padding: .05rem .6rem .05rem 0; }
  .pair tbody tr.follows th { padding-left: 1.1rem; }
  .pair td[colspan] { grid-column: 1 / -1; }
  .pair td[data-side]::before { content: attr(data-side); display: block; color: var(--soft);
    font: .75rem/1.4 var(--sans); }
}
@media (max-width: 44rem) {
  .grid tbody tr { display: block; padding: .45rem 0; border-top: 1px solid var(--rule); }
  .grid tbody th, .grid tbody td { display: block; border: 0; padding: .05rem 0; }
  .grid tbody td.same { display: none; }
  .grid td[data-side]::before { content: attr(data-side); display: block; color: var(--soft); font: .75rem/1.4 var(--sans); }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media print {
  :root { color-scheme: light; --page: #fff; --sheet: #fff; --quiet: #fff; --ink: #000; --soft: #444; --rule: #bbb;
    --edge: #777; --cause: #8a1f0d; --cause-tint: #fff; --maybe: #5a3f00; --maybe-tint: #fff; --link: #000; }
  body { font-size: 10.5pt; }
  header { padding-top: 0; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  h1 { font-size: 18pt; }
  h2, h3, .heads { break-after: avoid; }
  .card, .slab, tr, .chain li { break-inside: avoid; }
  .search { display: none; }
  details.paper::details-content { content-visibility: visible; }
  details.paper:not([open]) > :not(summary) { display: block; }
  .layer > summary h3::before { content: none; }
}
"""

SCRIPT = """
"use strict";
(function () {
  const box = document.getElementById("search");
  const said = document.getElementById("found");
  const folds = Array.from(document.querySelectorAll("details"));
  const before = new Map();
  const printed = new Map();
  addEventListener("beforeprint", function () {
    folds.filter((fold) => fold.classList.contains("paper")).forEach(function (fold) {
      printed.set(fold, fold.open);
      fold.open = true;
    });
  });
  addEventListener("afterprint", function () {
    printed.forEach((open, fold) => { fold.open = open; });
    printed.clear();
  });
  if (!box) { return; }
  const rows = Array.from(document.querySelectorAll("tbody tr, .list > li")).map(function (row) {
    const above = [];
    for (let fold = row.closest("details"); fold; fold = fold.parentElement.closest("details")) { above.push(fold); }
    return { row: row, text: row.textContent.toLowerCase(), above: above };
  });
  document.querySelector(".search").hidden = false;
  box.addEventListener("input", function () {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    if (words.length && !before.size) { folds.forEach((fold) => before.set(fold, fold.open)); }
    const open = new Set();
    let count = 0;
    rows.forEach(function (each) {
      const hit = words.every((word) => each.text.includes(word));
      each.row.hidden = !hit;
      if (hit && words.length) { count += 1; each.above.forEach((fold) => open.add(fold)); }
    });
    if (words.length) {
      folds.forEach(function (fold) { fold.open = open.has(fold); });
      said.textContent = count === 1 ? "1 line matches" : count + " lines match";
    } else {
      before.forEach((state, fold) => { fold.open = state; });
      before.clear();
      said.textContent = "";
    }
  });
})();
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def policy() -> str:
    """Return the Content-Security-Policy: this style and this script by their hash, and nothing else at all."""
    return (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )
