"use strict";
// Two recipes side by side. The address says which: #a=…&b=…
(() => {
  const data = window.merc.data.compare;
  const { el, chart, scatter } = window.merc.draw;
  const recipes = new Map(data.recipes.map((one) => [one.name, one]));
  const first = document.getElementById("first"), second = document.getElementById("second");
  if (!first) return; // fewer than two recipes
  const told = document.getElementById("told"), compared = document.getElementById("compared");
  const LISTED = 200;

  // Numbers -------------------------------------------------------------------------------------------------------------------

  const there = (values) => (values ?? []).filter((value) => value !== null);
  const mean = (values) => there(values).reduce((sum, value) => sum + value, 0) / there(values).length;
  function deviation(values) {
    const own = there(values), middle = mean(values);
    return own.length > 1 ? Math.sqrt(own.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (own.length - 1)) : null;
  }
  /** Per cent as the field prints them: 57.21 ± 0.34. */
  function scored(values) {
    if (!there(values).length) return "–";
    const spread = deviation(values);
    return [(100 * mean(values)).toFixed(2), spread === null ? null : el("span", { class: "spread" }, ` ± ${(100 * spread).toFixed(2)}`)];
  }
  const signed = (value, digits = 2) => (Math.abs(value) < 0.5 / 10 ** digits ? "±" : value > 0 ? "+" : "−") + Math.abs(value).toFixed(digits);
  const apart = (a, b) => (there(a).length && there(b).length ? signed(100 * (mean(b) - mean(a))) : "–");
  const grouped = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");

  // Pieces --------------------------------------------------------------------------------------------------------------------

  const sentence = (...words) => el("p", {}, ...words);
  const command = (words) => el("code", {}, words);
  /** Words that may break after the signs that join them, as in names of recipes. */
  const breaking = (words) => String(words).split(/(?<=[_+@-])/).map((piece, at) => [at ? el("wbr") : null, piece]);
  const name = (recipe, mark) => el("span", { class: `name of-${mark}` }, breaking(recipe.name));
  const head = (words, ...more) => el("th", { scope: "col", class: more[0] }, words);
  const key = (a, b) => el("ul", { class: "key" }, [[a, "a"], [b, "b"]].map(([one, mark]) => el("li", { class: `of-${mark}` }, el("i"), one.name)));
  const wide = (table) => el("div", { class: "scroll" }, table);

  function bar(values, mark, most) {
    const share = (value) => `${Math.max(0, Math.min(100, (100 * value) / most)).toFixed(2)}%`;
    const spread = deviation(values), middle = mean(values);
    const whisker = spread === null ? null : el("s", { style: `left: ${share(middle - spread)}; width: ${share(Math.min(2 * spread, middle + spread))}` });
    return el("div", { class: `track of-${mark}` }, there(values).length ? el("b", { style: `width: ${share(middle)}` }) : null, whisker);
  }

  /** Rows of two bars each: [{words, support, a, b}], the values of each seed; `most` is the longest bar. */
  function bars(a, b, heading, rows) {
    const most = Math.max(...rows.flatMap((row) => [row.a, row.b]).map((values) => (there(values).length ? mean(values) + (deviation(values) ?? 0) : 0)), 1e-9);
    const counted = rows.some((row) => row.support !== undefined);
    const line = (row) => el("tr", {},
      el("th", { scope: "row" }, row.words), counted ? el("td", { class: "n count" }, grouped(row.support)) : null,
      el("td", { class: "draw" }, bar(row.a, "a", most), bar(row.b, "b", most)),
      ...[scored(row.a), scored(row.b), apart(row.a, row.b)].map((words) => el("td", { class: "n" }, words)));
    const heads = [head(heading), counted ? head("Utterances", "n count") : null, el("td", { class: "draw" }), head("First", "n"), head("Second", "n"), head("Difference", "n")];
    return wide(el("table", { class: "bars" }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows.map(line))));
  }

  // Parts ---------------------------------------------------------------------------------------------------------------------

  function scores(a, b) {
    const rows = [["Test weighted F1", "test", "weighted_f1"], ["Test accuracy", "test", "accuracy"], ["Test macro F1", "test", "macro_f1"], ["Dev weighted F1", "dev", "weighted_f1"]];
    const facts = [["Model", (one) => one.model], ["Features", (one) => one.features], ["Seeds", (one) => one.seeds.length], ["Parameters", (one) => grouped(one.parameters)], ["Causal", (one) => (one.causal ? "yes" : "no")]];
    const body = [
      ...rows.map(([words, split, score]) => el("tr", {}, el("th", { scope: "row" }, words), [scored(a[split][score]), scored(b[split][score]), apart(a[split][score], b[split][score])].map((one) => el("td", { class: "n" }, one)))),
      ...facts.map(([words, of]) => el("tr", {}, el("th", { scope: "row" }, words), [of(a), of(b)].map((one) => el("td", { class: "fact" }, breaking(one))), el("td"))),
    ];
    const heads = el("tr", {}, head("Per cent"), el("th", { scope: "col", class: "n" }, name(a, "a")), el("th", { scope: "col", class: "n" }, name(b, "b")), head("Difference", "n"));
    return [...warnings(a, b), wide(el("table", { class: "scores" }, el("thead", {}, heads), el("tbody", {}, body))), el("p", { class: "claim" }, claim(a, b))];
  }

  function warnings(a, b) {
    const found = [];
    if (a.tag !== b.tag) found.push("The encoders of one were fine-tuned on emotion labels and those of the other were not: their scores must not be ranked.");
    const old = [a, b].filter((one) => one.outdated).map((one) => one.name);
    if (old.length) found.push(`The shards have been remade since ${old.join(" and ")} ${old.length > 1 ? "were" : "was"} trained.`);
    return found.map((words) => el("p", { class: "note" }, words));
  }

  function claim(a, b) {
    const pair = data.pairs.find((one) => (one.first === a.name && one.second === b.name) || (one.first === b.name && one.second === a.name));
    if (a.seeds.length < 2 || b.seeds.length < 2 || (pair && pair.seeds < 2)) return "Fewer than two seeds in common, so the spread is unknown: no difference is claimed.";
    if (!pair || pair.difference === null) return ["Whether they differ significantly was not tested: ", command(`merc-evaluate --dataset ${data.dataset} --protocol significance`)];
    const sign = pair.first === a.name ? -1 : 1;
    const [low, high] = sign < 0 ? [-pair.high, -pair.low] : [pair.low, pair.high];
    const tests = `${signed(100 * sign * pair.difference)} points of test weighted F1 over ${pair.seeds} seeds (p = ${pair.p_holm.toPrecision(2)} after Holm's correction; drawing dialogues: ${signed(100 * low)} to ${signed(100 * high)})`;
    if (pair.significant) return `Significant: ${tests}. Both tests agree.`;
    const needed = pair.seeds_needed ? ` A difference of this size would need about ${pair.seeds_needed} seeds.` : "";
    return `Not significant: ${tests}.${needed}`;
  }

  function confusion(a, b, group) {
    const shares = [a, b].map((one) => one.confusion.map((row) => row.map((count) => count / (row.reduce((sum, each) => sum + each, 0) || 1))));
    const own = (one, mark, at) => matrix(name(one, mark), group, `var(--cell-${mark})`, (row, column) => {
      const share = shares[at][row][column], count = one.confusion[row][column];
      const link = el("a", { href: address("dialogues.html", { recipe: one.name, emotion: group.classes[row], predicted: group.classes[column], split: "test" }), title: `${count} of ${group.classes[row]} taken for ${group.classes[column]}` }, `${(100 * share).toFixed(0)}`, el("small", {}, grouped(count)));
      return [65 * share, null, link];
    });
    const per = (one, row, column) => one.confusion[row][column] / one.seeds.length;
    const difference = matrix("Difference", group, null, (row, column) => {
      const points = 100 * (shares[1][row][column] - shares[0][row][column]), counts = per(b, row, column) - per(a, row, column);
      return [Math.min(65, 3 * Math.abs(points)), points > 0 ? "var(--cell-b)" : "var(--cell-a)", [signed(points, 1), el("small", {}, signed(counts, Number.isInteger(counts) ? 0 : 1))]];
    });
    return [
      el("p", { class: "soft" }, "Rows are the true emotion, columns the predicted one: per cent of the row, with the utterances of all seeds below; click to show them. In the difference: points, and utterances per seed; orange where the second has more."),
      el("div", { class: "matrices" }, own(a, "a", 0), own(b, "b", 1), difference),
    ];
  }

  /** `cell(row, column)` gives the depth of its colour in per cent, the colour if it is its own, and its content. */
  function matrix(title, group, hue, cell) {
    const row = (label, at) => el("tr", {}, el("th", { scope: "row" }, label), group.classes.map((_, column) => {
      const [depth, own, content] = cell(at, column);
      return el("td", { style: `--depth: ${depth.toFixed(0)}%; --hue: ${own ?? hue}` }, content);
    }));
    const heads = el("tr", {}, el("td", { class: "axis" }, "true ↓"), group.classes.map((one) => head(one)));
    return el("div", {}, el("h3", {}, title), wide(el("table", { class: "confusion" }, el("thead", {}, heads), el("tbody", {}, group.classes.map(row)))));
  }

  const classes = (a, b, group) => [key(a, b), bars(a, b, "F1", group.classes.map((words, at) => ({ words, support: a.support[at], a: a.classes_f1[at], b: b.classes_f1[at] })))];

  function changed(a, b, group) {
    const without = [a, b].filter((one) => one.said === null);
    if (without.length) return without.map((one) => sentence(`${one.name} has no predictions; retrain it: `, command(`merc-train --dataset ${data.dataset} --recipe ${one.name}`)));
    if (a.said.list !== b.said.list) return [sentence("Their test utterances or labels are not the same, so the changed utterances cannot be listed.")];
    const { utterances, dialogues, labels } = data.lists[a.said.list];
    const of = dialogues.flatMap(([dialogue, count]) => Array(count).fill(dialogue));
    const found = { lost: [], won: [], other: [], same: 0 };
    for (let at = 0; at < utterances.length; at += 1) {
      const [label, said, then] = [labels, a.said.classes, b.said.classes].map((signs) => signs.charCodeAt(at) - 48);
      if (label < 0) continue;
      if (said === then) found.same += 1;
      else found[said === label ? "lost" : then === label ? "won" : "other"].push([at, label, said, then]);
    }
    const listed = (words, rows) => el("details", {}, el("summary", {}, `${words}: ${grouped(rows.length)}`), rows.length > LISTED ? sentence(`The first ${LISTED} of ${grouped(rows.length)}.`) : null, el("div", { class: "scroll listed" }, el("table", { class: "changed" },
      el("thead", {}, el("tr", {}, ["Utterance", "True", "First says", "Second says"].map((one) => head(one)))),
      el("tbody", {}, rows.slice(0, LISTED).map(([at, ...said]) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: address("dialogues.html", { dialogue: of[at] }) }, utterances[at])), said.map((one) => el("td", {}, group.classes[one]))))))));
    const kinds = [["Right in the first, wrong in the second", found.lost], ["Wrong in the first, right in the second", found.won], ["Wrong in both, differently", found.other]];
    const counts = [...kinds.map(([words, rows]) => [words, rows.length]), ["The same class in both", found.same]];
    return [
      el("p", { class: "soft" }, a.seeds.length > 1 || b.seeds.length > 1 ? "By the class with the highest probability, averaged over the seeds of a recipe; labelled test utterances." : "Labelled test utterances."),
      el("table", { class: "counts" }, el("tbody", {}, counts.map(([words, count]) => el("tr", {}, el("th", { scope: "row" }, words), el("td", { class: "n" }, grouped(count)))))),
      ...kinds.filter(([, rows]) => rows.length).map(([words, rows]) => listed(words, rows)),
    ];
  }

  /** What an evaluation found of both, null where there is nothing, and sentences that say what to run. */
  function evaluation(protocol, a, b) {
    const found = [a, b].map((one) => one.evaluated[protocol] ?? null);
    const lacking = [a, b].flatMap((one, at) => {
      if (found[at] !== null && found[at] !== "earlier") return [];
      const why = found[at] === "earlier" ? `The evaluation of ${one.name} is from an earlier training; to repeat it: ` : `${one.name} has no such evaluation: `;
      return [sentence(why, command(`merc-evaluate --dataset ${data.dataset} --recipe ${one.name} --protocol ${protocol}`))];
    });
    return [...found.map((one) => (one === "earlier" ? null : one)), lacking];
  }

  /** The keys of what was found, those that are known first, in their order. */
  const inOrder = (known, found) => [...new Set([...Object.keys(known), ...Object.keys(found)])].filter((one) => one in found);

  function shift(a, b) {
    const [one, other, lacking] = evaluation("emotion_shift", a, b);
    const words = { transcript: "the speaker's previous utterance, labelled or not", labelled: "the speaker's previous labelled utterance" };
    const definitions = inOrder(words, { ...one, ...other });
    const rows = (definition) => [["no shift", "no_shift"], ["shift", "shift"]].map(([label, part]) => ({ words: label, support: (one ?? other)[definition][part].support, a: one?.[definition]?.[part].values, b: other?.[definition]?.[part].values }));
    return [...lacking, ...definitions.flatMap((definition, at) => [el("h3", {}, `From ${words[definition] ?? definition}`), at ? null : key(a, b), bars(a, b, "Weighted F1", rows(definition))])];
  }

  function context(a, b) {
    const [one, other, lacking] = evaluation("context_substitution", a, b);
    const words = { raw: "as it is", eccs: "by the same emotion (ECCS)", eics: "by another emotion (EICS)", identity: "by itself" };
    const rows = inOrder(words, { ...one, ...other }).map((kind) => ({ words: words[kind] ?? kind, a: one?.[kind], b: other?.[kind] }));
    return [...lacking, ...(rows.length ? [key(a, b), bars(a, b, "Context replaced", rows)] : [])];
  }

  function calibration(a, b) {
    const [one, other, lacking] = evaluation("calibration", a, b);
    if (!one && !other) return lacking;
    const rows = [["as it is", "raw"], ["with a temperature chosen on dev", "tempered"]].map(([words, kind]) => ({ words, a: one?.[kind], b: other?.[kind] }));
    const lines = [[one, "a"], [other, "b"]].filter(([found]) => found).map(([found, mark]) => ({ points: found.curve.map(([sure, right]) => [sure, right]), class: `of-${mark}${mark === "b" ? " second" : ""}`, dots: true }));
    const axis = { range: [0, 1], percent: true };
    return [...lacking, key(a, b), bars(a, b, "Expected calibration error", rows), el("div", { class: "charts" }, chart({ title: "Reliability", lines, x: { label: "confidence, %", ...axis }, y: { label: "Accuracy, % of the utterances; on the dotted line, accuracy equals confidence.", ...axis }, diagonal: true, width: 400, height: 300 }))];
  }

  function robustness(a, b) {
    const [one, other, lacking] = evaluation("robustness", a, b);
    const sets = Object.keys({ ...one, ...other });
    if (!sets.length) return lacking;
    const lines = (set) => [[one, "a"], [other, "b"]].filter(([found]) => found?.[set]?.length).map(([found, mark]) => ({ points: found[set], class: `of-${mark}${mark === "b" ? " second" : ""}`, dots: true }));
    const every = sets.flatMap((set) => lines(set).flatMap((line) => line.points.map((point) => point[1])));
    const ends = [Math.max(0, Math.min(...every) - 0.02), Math.min(1, Math.max(...every) + 0.02)];
    return [...lacking, key(a, b), el("div", { class: "charts small" }, sets.map((set) => chart({ title: `Without ${set.replaceAll("+", ", ")}`, lines: lines(set), x: { label: "dropped, % of the utterances that have it", percent: true }, y: { label: "Weighted F1, %", percent: true, range: ends }, width: 300, height: 190 })))];
  }

  function training(a, b) {
    const lines = (of) => [[a, "a"], [b, "b"]].flatMap(([one, mark]) => one.history.map((seed) => ({ points: seed[of].map((value, at) => [at + 1, value]).filter((point) => point[1] !== null), class: `of-${mark}${mark === "b" ? " second" : ""}`, chosen: seed.chosen })));
    const lacking = [a, b].filter((one) => !one.history.length).map((one) => sentence(`${one.name} has no history of its training.`));
    if (lacking.length === 2) return lacking;
    return [...lacking, key(a, b), el("div", { class: "charts" },
      chart({ title: "Training loss", lines: lines("loss"), x: { label: "epoch" }, y: { label: "A line for each seed; losses of different objectives are not comparable." }, width: 440, height: 240 }),
      chart({ title: "Weighted F1 on dev", lines: lines("dev"), x: { label: "epoch" }, y: { label: "Per cent; the dot is the chosen epoch.", percent: true }, width: 440, height: 240 }))];
  }

  function representations(a, b, group) {
    const [one, other, lacking] = evaluation("representations", a, b);
    if (!one && !other) return lacking;
    const maps = [[one, a, "a"], [other, b, "b"]].filter(([found]) => found?.points.length).map(([found, recipe, mark]) => scatter(el("h3", {}, name(recipe, mark), `, seed ${found.seed}`), found.points, group.colours, group.classes));
    const legend = el("ul", { class: "key" }, group.classes.map((label, at) => el("li", {}, el("i", { style: `background: ${group.colours[at]}` }), label)));
    return [...lacking, el("p", { class: "soft" }, "The classifier's input for test utterances. Silhouette: 100 if each is much nearer to its own emotion than to any other, below 0 if it is nearer to another. In the maps (t-SNE) neighbourhoods are meaningful, distances are not."),
      bars(a, b, "Silhouette", [{ words: "of the emotions, × 100", a: one?.silhouette, b: other?.silhouette }]), legend, el("div", { class: "charts" }, maps)];
  }

  function settings(a, b) {
    const lacking = [a, b].filter((one) => !Object.keys(one.settings).length).map((one) => sentence(`${one.name} has no record of its settings.`));
    if (lacking.length) return lacking;
    const keys = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])].sort().filter((one) => a.settings[one] !== b.settings[one]);
    if (!keys.length) return [sentence("None: they were trained with the same settings.")];
    const cell = (one, setting) => (setting in one.settings ? el("td", {}, one.settings[setting]) : el("td", { class: "soft" }, "–"));
    const heads = el("tr", {}, head("Setting"), el("th", { scope: "col" }, name(a, "a")), el("th", { scope: "col" }, name(b, "b")));
    return [wide(el("table", { class: "differ" }, el("thead", {}, heads), el("tbody", {}, keys.map((one) => el("tr", {}, el("th", { scope: "row" }, one), cell(a, one), cell(b, one))))))];
  }

  const PARTS = { scores, confusion, classes, changed, shift, context, calibration, robustness, training, representations, settings };

  // Which two -----------------------------------------------------------------------------------------------------------------

  const address = (page, where) => `${page}#${Object.entries(where).map(([one, value]) => `${one}=${encodeURIComponent(value)}`).join("&")}`;

  function wanted() {
    const given = Object.fromEntries(location.hash.slice(1).split("&").filter((one) => one.includes("=")).map((one) => [one.slice(0, one.indexOf("=")), decoded(one.slice(one.indexOf("=") + 1))]));
    const [a, b] = data.picked;
    return { a: given.a ?? a, b: given.b ?? (given.a === b ? a : b) };
  }

  function decoded(words) {
    try { return decodeURIComponent(words); } catch { return words; }
  }

  function tell(words) {
    told.hidden = !words;
    told.textContent = words ? window.merc.draw.shown(words) : "";
    compared.hidden = Boolean(words);
  }

  function render() {
    const { a, b } = wanted();
    const unknown = [a, b].find((one) => !recipes.has(one));
    if (unknown !== undefined) return tell(`No recipe is called ${unknown}; choose two above.`);
    first.value = a;
    second.value = b;
    const [one, other] = [recipes.get(a), recipes.get(b)];
    if (a === b) return tell(`Both are ${a}; choose a different one.`);
    if (one.group !== other.group) {
      const label = (recipe) => `${recipe.name} has ${data.groups[recipe.group].label_set} (${data.groups[recipe.group].classes.join(", ")})`;
      return tell(`They predict different emotions, and only recipes with the same can be compared: ${label(one)}; ${label(other)}.`);
    }
    tell("");
    for (const place of compared.querySelectorAll("[data-part]")) place.replaceChildren(...PARTS[place.dataset.part](one, other, data.groups[one.group]).filter((piece) => piece !== null));
  }

  function options(select) {
    const option = (recipe) => el("option", { value: recipe.name }, recipe.name);
    const points = data.recipes.filter((one) => one.point), others = data.recipes.filter((one) => !one.point);
    if (!points.length || !others.length) select.append(...data.recipes.map(option));
    else select.append(el("optgroup", { label: "Recipes" }, others.map(option)), el("optgroup", { label: "Points of sweeps" }, points.map(option)));
  }

  let followed = null; // the part of the address that is on the page
  function follow() {
    if (location.hash === followed) return;
    followed = location.hash;
    render();
  }

  function go(a, b) {
    location.hash = address("", { a, b });
    follow(); // at once, and not when the browser comes to tell it
  }

  for (const select of [first, second]) {
    options(select);
    select.addEventListener("change", () => go(first.value, second.value));
  }
  document.getElementById("swap").addEventListener("click", () => go(second.value, first.value));
  window.addEventListener("hashchange", follow);
  follow();
})();
