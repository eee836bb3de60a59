// The page of all dialogues: its state is after the # of the address, which alone determines what is shown.
// An utterance is a number, counted over all dialogues; so is a dialogue. Foreign text becomes text of the page, never markup.
"use strict";
(() => {
  const data = window.merc.data["dialogues/index"];
  const NOTHING = -2, UNLABELLED = -3, FIRST = 49, AHEAD = "700px", PRINTED = 100;
  const CHOICES = ["split", "emotion", "predicted", "speaker", "recipe", "failure"], CHECKS = ["wrong", "confident", "disagree", "doubtful"];
  const KEYS = ["q", ...CHOICES.slice(0, 5), ...CHECKS, "failure", "dialogue"];
  const get = (id) => document.getElementById(id);
  const list = get("list");
  const nameWidth = () => (window.innerWidth <= 560 ? 72 : Math.min(190, 40 + 7 * Math.max(0, ...data.recipes.map((one) => one.name.length))));

  // ---- what is known at once
  const dialogues = data.ids.length;
  const begin = new Int32Array(dialogues + 1);
  data.lengths.forEach((length, k) => { begin[k + 1] = begin[k] + length; });
  const utterances = begin[dialogues];
  const labels = unpacked(data.labels, 0);
  const recipes = data.recipes.map((one) => ({ name: one.name, said: unpacked(one.classes, one.first), percent: (u) => percentOf(one.percent, u - one.first) }));

  function unpacked(signs, first) {
    const found = new Int16Array(utterances).fill(NOTHING);
    for (let at = 0; at < signs.length; at++) found[first + at] = signs.charCodeAt(at) - FIRST;
    return found;
  }

  function percentOf(digits, at) {
    return 10 * (digits.charCodeAt(2 * at) - 48) + digits.charCodeAt(2 * at + 1) - 48;
  }

  const isWrong = (c, u) => c >= 0 && labels[u] >= 0 && c !== labels[u];

  let disagreement = null;
  function disagreeing() { // one flag an utterance: two recipes say different things
    if (disagreement) return disagreement;
    disagreement = new Uint8Array(utterances);
    for (let u = 0; u < utterances; u++) {
      let first = NOTHING;
      for (const { said } of recipes) {
        if (said[u] === NOTHING) continue;
        if (first === NOTHING) first = said[u];
        else if (said[u] !== first) { disagreement[u] = 1; break; }
      }
    }
    return disagreement;
  }

  // ---- what is loaded when it is needed
  const loading = {};
  function load(name) {
    loading[name] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `dialogues/${name}.js`;
      script.onload = () => done(window.merc.data[`dialogues/${name}`]);
      script.onerror = () => { delete loading[name]; failed(new Error(`dialogues/${name}.js is missing next to this page; copy the whole folder of the report.`)); };
      document.head.append(script);
    });
    return loading[name];
  }

  const hasTexts = get("q").dataset.texts === "1";
  let texts = null, folded = null;
  async function loadTexts() {
    if (hasTexts && !texts) texts = await load("texts");
  }
  const fold = (text) => text.normalize("NFKC").toLowerCase();

  // ---- the state
  function readState() {
    const state = {};
    for (const pair of location.hash.slice(1).split("&")) {
      const at = pair.indexOf("=");
      if (at > 0 && KEYS.includes(pair.slice(0, at))) state[pair.slice(0, at)] = decoded(pair.slice(at + 1));
    }
    return state;
  }

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  function written(state) {
    const whole = (text) => (text.toWellFormed ? text.toWellFormed() : text);
    return "#" + KEYS.filter((key) => state[key]).map((key) => `${key}=${encodeURIComponent(whole(state[key]))}`).join("&");
  }

  function fromFields() {
    const state = { q: get("q").value, dialogue: readState().dialogue };
    for (const key of CHOICES) state[key] = get(key).value;
    for (const key of CHECKS) state[key] = get(key).checked ? "1" : "";
    return state;
  }

  function go(state, replace) { // to another state, as if its address had been opened
    const address = written(state);
    if (address === (location.hash || "#")) return;
    history[replace ? "replaceState" : "pushState"](null, "", address);
    follow(false);
  }

  // ---- which utterances fit
  function chosen(state) { // names become numbers; what is not here is told, and left out
    const problems = [];
    const number = (key, names) => {
      if (!state[key]) return -1;
      const found = names.indexOf(state[key]);
      if (found < 0) problems.push(`There is no ${key} “${state[key]}” here; the rest of the filter applies.`);
      return found;
    };
    const classes = data.classes.map((one) => one.name);
    const emotion = state.emotion === data.unlabelled ? UNLABELLED : number("emotion", classes);
    const found = {
      split: number("split", data.splits), emotion, predicted: number("predicted", classes), speaker: number("speaker", data.speakers),
      recipe: number("recipe", recipes.map((one) => one.name)), dialogue: number("dialogue", data.ids),
      wrong: state.wrong === "1", confident: state.confident === "1", disagree: state.disagree === "1", doubtful: state.doubtful === "1",
      failed: null, words: fold(state.q || "").trim(), problems,
    };
    if (state.failure && number("failure", Object.keys(data.failures)) >= 0) {
      found.failed = new Uint8Array(utterances);
      for (const u of data.failures[state.failure]) found.failed[u] = 1;
    }
    found.recipes = found.recipe < 0 ? recipes : [recipes[found.recipe]];
    return found;
  }

  function tests(want) { // those that ask something of a single utterance
    const found = [];
    if (want.emotion === UNLABELLED) found.push((u) => labels[u] === -1);
    else if (want.emotion >= 0) found.push((u) => labels[u] === want.emotion);
    if (want.speaker >= 0) found.push((u) => data.speaker[u] === want.speaker);
    if (want.doubtful) found.push((u) => data.doubtful.charCodeAt(u) === FIRST);
    if (want.failed) found.push((u) => want.failed[u] === 1);
    if (want.disagree) { const flags = disagreeing(); found.push((u) => flags[u] === 1); }
    if (want.predicted >= 0 || want.wrong || want.confident) found.push((u) => want.recipes.some((one) => fits(one, u, want)));
    return found;
  }

  function fits(recipe, u, want) { // all that is asked of a prediction holds for one and the same
    const c = recipe.said[u];
    if (want.predicted >= 0 && c !== want.predicted) return false;
    if ((want.wrong || want.confident) && !isWrong(c, u)) return false;
    return !want.confident || recipe.percent(u) >= data.confident;
  }

  function filtered(want) { // dialogues in order, the utterances that fit, and how many they are
    const asked = tests(want), marks = new Uint8Array(utterances), shown = [];
    let count = 0;
    if (want.words && texts && !folded) folded = texts.map(fold);
    for (let k = 0; k < dialogues; k++) {
      if (want.split >= 0 && data.split[k] !== want.split) continue;
      const named = want.words && fold(data.ids[k]).includes(want.words);
      let some = 0;
      for (let u = begin[k]; u < begin[k + 1]; u++) {
        if (want.words && !named && !(folded && folded[u].includes(want.words))) continue;
        if (asked.every((test) => test(u))) { marks[u] = 1; some++; }
      }
      if (some || !(asked.length || want.words)) { shown.push(k); count += some; }
    }
    return { shown, marks: asked.length || want.words ? marks : null, count };
  }

  // ---- drawing
  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") made.className = value;
      else if (key in made && typeof value !== "string") made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const spaced = (elements) => elements.flatMap((one) => [one, " "]); // so that words stay apart where they are copied or read aloud
  const plural = (count, word) => `${count.toLocaleString("en").replaceAll(",", "\u202f")} ${word}${count === 1 ? "" : "s"}`;
  const nameOf = (c) => (c >= 0 ? data.classes[c].name : c === -1 ? "outside the label set" : "not predicted");

  function cell(c, kind, title, words = "") {
    const made = el("span", { class: `cell ${c < 0 ? "none" : kind}`, title });
    if (c < 0) return made;
    made.style.setProperty("--c", data.classes[c].colour);
    made.style.setProperty("--i", data.classes[c].ink);
    made.textContent = words;
    return made;
  }

  const whole = (c, kind) => el("span", { class: "whole" }, cell(c, kind, nameOf(c), nameOf(c)));

  function fitting(k, width) { // the letters of a class, where they fit into the cells of a dialogue
    const across = Math.min(28, width / data.lengths[k]);
    return (c) => (c >= 0 && across >= 3 + 7 * data.classes[c].letters.length ? data.classes[c].letters : "");
  }

  function trueStrip(k, width, marks) {
    const strip = el("div", { class: "cells true", role: "img" });
    const fit = fitting(k, width), said = [];
    for (let u = begin[k]; u < begin[k + 1]; u++) {
      const c = labels[u], title = `${u - begin[k]}  ${data.speakers[data.speaker[u]]}: ${nameOf(c)}`;
      const made = cell(c, "", title, fit(c));
      if (marks && marks[u]) made.classList.add("found");
      strip.append(made);
      said.push(nameOf(c));
    }
    strip.setAttribute("aria-label", `true emotions: ${said.join(", ")}`);
    return strip;
  }

  function saidStrip(k, recipe, width) {
    const strip = el("div", { class: "cells", role: "img" });
    const fit = fitting(k, width), words = [];
    let wrong = 0;
    for (let u = begin[k]; u < begin[k + 1]; u++) {
      const c = recipe.said[u], off = isWrong(c, u);
      wrong += off;
      const title = c < 0 ? nameOf(c) : `${u - begin[k]}  ${nameOf(c)}, ${recipe.percent(u)} %${off ? `; true: ${nameOf(labels[u])}` : ""}`;
      strip.append(cell(c, off ? "wrong" : "right", title, fit(c)));
      words.push(off ? `${nameOf(c)} (wrong)` : nameOf(c));
    }
    strip.setAttribute("aria-label", `predicted by ${recipe.name}: ${words.join(", ")}`);
    return [strip, wrong];
  }

  let now = { want: null, shown: [], marks: null, filter: "" }; // what is on the page
  const items = new Map(); // dialogue → its place in the list, drawn when it comes near the window
  const watch = new IntersectionObserver((entries) => {
    for (const one of entries) (one.isIntersecting ? draw : forget)(one.target);
  }, { rootMargin: AHEAD });

  const strips = (k) => now.want.recipes.filter(({ said }) => said.subarray(begin[k], begin[k + 1]).some((c) => c !== NOTHING));

  function item(k) {
    if (!items.has(k)) {
      const made = el("li", { class: "dialogue" });
      made.dataset.dialogue = k;
      items.set(k, made);
    }
    return items.get(k);
  }

  function reserve(made) { // about as high as it will be, so that the scroll bar is right
    made.style.minHeight = `${72 + 16 * strips(Number(made.dataset.dialogue)).length}px`;
  }

  function draw(made) {
    if (made.childElementCount) return;
    const k = Number(made.dataset.dialogue);
    const width = Math.max(60, list.clientWidth - nameWidth() - (window.innerWidth <= 560 ? 66 : 98));
    const lines = el("div", { class: "lines" }, el("span", { class: "name" }, "true"), el("span", { class: "value" }), trueStrip(k, width, now.marks));
    for (const recipe of strips(k)) {
      const [strip, wrong] = saidStrip(k, recipe, width);
      lines.append(el("span", { class: "name", title: recipe.name }, el("bdi", {}, recipe.name)), el("span", { class: "value" }, `${wrong} wrong`), strip);
    }
    const open = now.want.dialogue === k;
    const button = el("button", { type: "button", "aria-expanded": String(open) }, el("bdi", {}, data.ids[k]));
    const people = [...new Set(data.speaker.slice(begin[k], begin[k + 1]))].map((one) => data.speakers[one]);
    made.append(el("div", { class: "head" }, el("h3", {}, button), el("span", { class: "soft", dir: "auto" }, `${plural(data.lengths[k], "utterance")} · ${people.join(", ")}`)), lines);
    made.style.minHeight = "";
    if (open) show(made, k);
  }

  function forget(made) {
    if (!made.childElementCount || Number(made.dataset.dialogue) === now.want.dialogue) return;
    made.style.minHeight = `${made.offsetHeight}px`;
    made.replaceChildren();
  }

  function redraw(made) {
    if (!made.childElementCount) return;
    made.replaceChildren();
    draw(made);
  }

  // ---- an opened dialogue
  async function show(made, k) {
    const panel = el("div", { class: "opened" }, el("p", { class: "soft" }, "…"));
    made.append(panel);
    try {
      const [part] = await Promise.all([load(`part-${Math.floor(k / data.part)}`), loadTexts()]);
      const turns = el("ol", { class: "turns" });
      for (let u = begin[k]; u < begin[k + 1]; u++) turns.append(turn(part, k, u));
      panel.replaceChildren(turns, ...alike(part, k));
      if (scrollTo) scrollTo();
    } catch (error) {
      panel.replaceChildren(el("p", { class: "note" }, error.message));
    }
  }

  function turn(part, k, u) {
    const at = u - part.first, position = u - begin[k];
    const doubts = part.doubts[at];
    const made = el("li", { class: `turn${now.marks && now.marks[u] ? " found" : ""}` });
    made.dataset.utterance = u;
    const text = texts ? texts[u] : null;
    const said = el("div", {},
      el("p", { class: "who" }, whole(labels[u], ""), " ", el("b", {}, el("bdi", {}, data.speakers[data.speaker[u]])), " ", el("bdi", {}, `${part.utterances[at]}`)),
      text === null ? null : el("p", { class: "words", dir: "auto" }, text || "(no words)"),
      guesses(part, at, u), ...facts(part, at, doubts));
    if (part.heard[at] === "1") said.append(player(u));
    made.append(face(part, k, at, position, doubts), said);
    return made;
  }

  function face(part, k, at, position, doubts) {
    const which = part.cells[at];
    if (which < 0) return el("div", { class: "face nobody", title: "no image of a face" });
    const side = window.innerWidth <= 560 ? 44 : 56;
    const count = part.cells.slice(begin[k] - part.first, begin[k + 1] - part.first).filter((one) => one >= 0).length;
    const image = el("img", { src: `dialogues/faces/${k}.jpg`, alt: `the chosen face in utterance ${position}`, loading: "lazy" });
    image.style.width = `${Math.min(count, data.columns) * side}px`;
    image.style.left = `${-(which % data.columns) * side}px`;
    image.style.top = `${-Math.floor(which / data.columns) * side}px`;
    return el("div", { class: `face${doubts ? " doubtful" : ""}`, title: doubts ? `doubtful: ${doubts.join(", ")}` : "the chosen face" }, image);
  }

  function guesses(part, at, u) {
    const made = el("ul", { class: "guesses" });
    for (const recipe of now.want.recipes) {
      const c = recipe.said[u];
      if (c === NOTHING) continue;
      const one = el("li", {}, whole(c, isWrong(c, u) ? "wrong" : "right"), el("span", { class: "percent" }, `${recipe.percent(u)} %`),
        el("span", { class: "name", title: recipe.name }, el("bdi", {}, recipe.name)));
      const single = Object.entries(part.unimodal[recipes.indexOf(recipe)]).filter(([, said]) => said.classes.charCodeAt(at) - FIRST !== NOTHING);
      if (single.length) {
        const words = ([name, said]) => `${name}: ${nameOf(said.classes.charCodeAt(at) - FIRST)} ${percentOf(said.percent, at)} %`;
        one.append(el("span", { class: "single" }, ...spaced(single.map((of) => el("span", {}, words(of))))));
      }
      made.append(one);
    }
    return made;
  }

  function facts(part, at, doubts) {
    const found = [];
    const missing = Object.entries(part.present).filter(([, flags]) => flags[at] !== "1").map(([name]) => name);
    const there = Object.keys(part.present).filter((name) => !missing.includes(name));
    found.push(el("p", { class: "more" }, el("span", {}, `has ${there.join(", ") || "no modality"}`), " ", missing.length && there.length ? el("span", { class: "warn" }, `without ${missing.join(", ")}`) : null));
    if (doubts) found.push(el("p", { class: "more" }, el("span", { class: "warn long" }, `doubtful face: ${doubts.join(", ")}`)));
    for (const [, modality, reason, detail] of part.failures.filter(([one]) => one === at)) {
      const link = el("a", { href: written({ failure: reason }) }, reason.replaceAll("_", " "));
      found.push(el("p", { class: "more" }, `${modality}: `, link, ` – ${data.reasons[reason]}`, detail ? el("span", { class: "long" }, ` (${detail})`) : ""));
    }
    const quality = Object.entries(part.quality).filter(([, values]) => values[at] !== null);
    if (quality.length) found.push(el("p", { class: "more" }, ...spaced(quality.map(([name, values]) => el("span", { title: data.quality[name] }, `${name.replace("quality_", "").replaceAll("_", " ")} ${values[at]}`)))));
    return found;
  }

  function player(u) { // nothing is loaded before it is asked for
    const button = el("button", { type: "button", class: "play" }, "Play the audio");
    button.addEventListener("click", () => {
      const sound = el("audio", { src: `dialogues/sound/${u}.flac`, controls: "" });
      button.replaceWith(sound);
      sound.focus();
      sound.play().catch(() => sound.after(el("p", { class: "note" }, "This browser cannot play the audio.")));
    });
    return button;
  }

  function alike(part, k) {
    const row = k % data.part;
    const some = Object.entries(part.neighbours).filter(([, of]) => of[row].length);
    if (!some.length) return [];
    const made = el("div", { class: "alike" });
    for (const [name, of] of some) {
      made.append(el("p", { class: "by" }, `by ${name.replaceAll("_", " ")}`));
      for (const [other, value] of of[row]) {
        made.append(el("a", { href: written({ dialogue: data.ids[other] }) }, el("bdi", {}, data.ids[other])), el("span", { class: "value" }, value.toFixed(3)), trueStrip(other, list.clientWidth - 260, null));
      }
    }
    return [el("h4", {}, "Dialogues with similar emotion trajectories"), made];
  }

  // ---- following the address
  let followed = null, scrollTo = null;
  async function follow(jump) {
    const state = readState(), problems = [];
    followed = location.hash;
    if (state.q) {
      await loadTexts().catch((error) => problems.push(error.message));
      if (followed !== location.hash) return; // it went on meanwhile
    }
    const before = now.want, filter = written({ ...state, dialogue: "" });
    const want = chosen(state);
    const { shown, marks, count } = filtered(want);
    if (want.dialogue >= 0 && !shown.includes(want.dialogue)) shown.unshift(want.dialogue);
    const same = before && filter === now.filter && (want.dialogue < 0 || items.get(want.dialogue)?.isConnected);
    now = { want, shown, marks, filter };
    putFields(state);
    tell([...problems, ...want.problems]);
    if (same) [before.dialogue, want.dialogue].filter((k) => k >= 0).forEach((k) => redraw(items.get(k)));
    else drawAll(shown);
    get("count").textContent = marks ? `${plural(count, "utterance")} in ${shown.length.toLocaleString("en").replaceAll(",", "\u202f")} of ${plural(dialogues, "dialogue")}` : plural(shown.length, "dialogue") + `, ${plural(shown.reduce((sum, k) => sum + data.lengths[k], 0), "utterance")}`;
    if (jump && want.dialogue >= 0) item(want.dialogue).scrollIntoView();
  }

  function drawAll(shown) {
    const every = shown.map(item);
    list.style.setProperty("--name", `${nameWidth()}px`);
    for (const made of every) { made.replaceChildren(); reserve(made); }
    list.replaceChildren(...every);
    if (!every.length) list.append(el("li", { class: "nothing" }, "No utterance matches; clear the filter, or a part of it."));
    lookAnew(every);
  }

  function lookAnew(every) { // those in sight are drawn, and the others forgotten
    for (const made of every) { watch.unobserve(made); watch.observe(made); }
  }

  function putFields(state) {
    if (get("q") !== document.activeElement) get("q").value = state.q || "";
    for (const key of CHOICES) {
      get(key).value = state[key] || "";
      if (get(key).selectedIndex < 0) get(key).value = "";
    }
    for (const key of CHECKS) get(key).checked = state[key] === "1";
  }

  function tell(problems) {
    get("note").hidden = !problems.length;
    get("note").textContent = problems.join(" ");
  }

  function toggle(k) {
    go({ ...readState(), dialogue: now.want.dialogue === k ? "" : data.ids[k] });
    const button = items.get(k)?.querySelector("h3 button");
    if (button) button.focus();
  }

  list.addEventListener("click", (event) => {
    const made = event.target.closest(".dialogue");
    if (!made || event.target.closest(".opened")) return;
    const k = Number(made.dataset.dialogue), strip = event.target.closest(".cells");
    if (event.target.closest("h3 button")) toggle(k);
    else if (strip) {
      const u = begin[k] + Math.max(0, [...strip.children].indexOf(event.target));
      scrollTo = () => { scrollTo = null; made.querySelector(`[data-utterance="${u}"]`)?.scrollIntoView({ block: "center" }); };
      if (now.want.dialogue === k) scrollTo();
      else toggle(k);
    }
  });
  let waiting = 0;
  get("q").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go(fromFields(), true), 150);
  });
  get("q").addEventListener("focus", () => { loadTexts().catch((error) => tell([error.message])); }, { once: true });
  for (const key of [...CHOICES, ...CHECKS]) get(key).addEventListener("change", () => go(fromFields()));
  get("clear").addEventListener("click", () => { get("q").value = ""; go({}); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && now.want.dialogue >= 0 && event.target.closest?.("#list")) toggle(now.want.dialogue);
  });
  let width = list.clientWidth;
  window.addEventListener("resize", () => {
    if (width !== list.clientWidth) { width = list.clientWidth; for (const made of list.children) if (made.dataset.dialogue) redraw(made); }
  });
  window.addEventListener("beforeprint", () => now.shown.slice(0, PRINTED).forEach((k) => draw(item(k)))); // the rest is left out
  window.addEventListener("afterprint", () => lookAnew(now.shown.map(item)));
  for (const one of ["hashchange", "popstate"]) window.addEventListener(one, () => { if (location.hash !== followed) follow(true); });
  follow(true);
})();
