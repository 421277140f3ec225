"use strict";
// The page of a video: curves, playhead, video, faces and what they have in common, the time.
(async () => {
  const $ = id => document.getElementById(id);
  if (!$("data")) return;
  const data = JSON.parse($("data").textContent), spec = JSON.parse($("spec").textContent);

  // ---- Numbers
  const bytes = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const time = new Float32Array(bytes(data.time_s).buffer), count = time.length;
  const decode = ({ low, high, steps }) => {
    const whole = new Uint16Array(bytes(steps).buffer);
    return Float32Array.from(whole, step => step === 65535 ? NaN : low + (high - low) * step / 65534);
  };
  const people = data.people.map(person => ({ ...person, seen: bytes(person.seen),
    columns: Object.fromEntries(Object.entries(person.columns).map(([name, curve]) => [name, decode(curve)])) }));
  for (const person of people) { // A share of 1 → 1 for the average frame.
    const shares = person.columns.importance;
    let sum = 0, numbers = 0;
    for (const share of shares ?? []) if (share === share) { sum += share; numbers++; }
    person.weights = sum > 0 ? shares.map(share => share * numbers / sum) : null;
  }
  const step = count > 1 ? (time[count - 1] - time[0]) / (count - 1) : 1;
  const start = time[0], end = time[count - 1] + step;
  const pointAt = at => { // The last point that is not later.
    let a = 0, b = count;
    while (a < b) { const middle = (a + b) >> 1; if (time[middle] <= at + 1e-4) a = middle + 1; else b = middle; }
    return Math.max(0, a - 1);
  };
  const show = (value, digits = 2) => Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–";
  const showTime = at => {
    const minutes = Math.floor(at / 60);
    return end < 60 ? `${at.toFixed(2)} s` : `${minutes}:${(at - 60 * minutes).toFixed(2).padStart(5, "0")}`;
  };

  // ---- What is shown
  const shown = { person: 0, measure: "", of: data.classes[0], from: start, to: end, hidden: new Set(), rows: false };
  const isAll = () => shown.person === "all";
  const persons = () => isAll() ? people : [people[shown.person]];
  const styleOf = place => ({ colour: data.colours[place], dash: data.dashes[place] });
  const inkOf = (colour, ink) => colour === "currentColor" ? ink : colour;
  const curves = () => isAll()
    ? people.map((person, place) => ({ key: `Person ${person.face}`, person, values: person.columns[shown.of + shown.measure], ...styleOf(place) }))
    : data.classes.map((name, place) => ({ key: name, person: people[shown.person], values: people[shown.person].columns[name + shown.measure], ...styleOf(place) }));
  const visible = () => curves().filter(curve => curve.values && !shown.hidden.has(curve.key));
  function limits() {
    if (shown.measure !== "_change") return [data.low, 1];
    let most = 0.1;
    for (const curve of curves()) for (const value of curve.values ?? []) if (Math.abs(value) > most) most = Math.abs(value);
    return [-most, most];
  }

  // Of a curve, the points of a stretch of time: at most four a pixel, which keep each peak. `null` breaks the line.
  function reduce(values, seen, width) {
    const first = Math.max(0, pointAt(shown.from) - 1), last = Math.min(count - 1, pointAt(shown.to) + 1);
    const size = last - first > 3 * width ? (last - first) / width : 0, found = [];
    let bucket = -1, kept = [], isOpen = false;
    const flush = () => {
      for (const at of [...new Set(kept)].sort((a, b) => a - b)) found.push([time[at], values[at]]);
      kept = [];
    };
    for (let at = first; at <= last; at++) {
      const value = values[at];
      if (value !== value) {
        if (seen[at] === data.states.no_face && isOpen) { flush(); found.push([time[at], null]); isOpen = false; }
        continue;
      }
      isOpen = true;
      if (!size) { found.push([time[at], value]); continue; }
      const now = Math.floor((at - first) / size);
      if (now !== bucket || !kept.length) { flush(); bucket = now; kept = [at, at, at, at]; continue; }
      if (value < values[kept[1]]) kept[1] = at;
      if (value > values[kept[2]]) kept[2] = at;
      kept[3] = at;
    }
    flush();
    return found;
  }
  function gapsOf(seen) {
    const found = [];
    for (let at = 0, from = -1; at <= count; at++) {
      const isGap = at < count && seen[at] === data.states.no_face;
      if (isGap && from < 0) from = at;
      if (!isGap && from >= 0) { found.push({ a: time[from], b: at < count ? time[at] : end }); from = -1; }
    }
    return found.filter(gap => gap.b > shown.from && gap.a < shown.to)
      .map(gap => ({ a: Math.max(gap.a, shown.from), b: Math.min(gap.b, shown.to) }));
  }
  function ticksOf(width) {
    const span = shown.to - shown.from, most = Math.max(2, width / 80);
    const steps = [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
    const each = steps.find(candidate => span / candidate <= most) ?? 14400, found = [];
    for (let tick = Math.ceil(shown.from / each - 1e-6); tick * each <= shown.to + 1e-6; tick++) found.push(+(tick * each).toFixed(3));
    return found;
  }

  // What the chart draws, for a width in pixels.
  function draw(width, height, ink = "currentColor") {
    const [low, high] = limits(), list = visible(), rows = [], weights = [], labels = [], inRows = shown.rows && !isAll() && list.length > 0;
    // In rows of their own, curves are moved: the first has the values from n - 1 to n, the last those from 0 to 1.
    const bases = list.map((_, place) => inRows ? list.length - 1 - place : 0);
    const move = (value, place) => inRows && value !== null ? bases[place] + 0.9 * (value - low) / (high - low) : value;
    list.forEach((curve, place) => {
      const base = inRows ? move(Math.max(low, 0), place) : 0;
      for (const [t, v] of reduce(curve.values, curve.person.seen, width)) rows.push({ s: curve.key, t, v: move(v, place), b: base });
    });
    let most = 1;
    people.forEach((person, place) => {
      if (!persons().includes(person) || !person.weights) return;
      const { colour, dash } = isAll() ? styleOf(place) : { colour: "currentColor", dash: [1, 0] };
      if (isAll() && shown.hidden.has(`Person ${person.face}`)) return;
      for (const weight of person.weights) if (weight > most) most = weight;
      for (const [t, v] of reduce(person.weights, person.seen, width)) weights.push({ s: person.face, t, v, c: inkOf(colour, ink), d: dash });
    });
    // A label at the end of each curve, moved apart.
    list.forEach((curve, place) => {
      let at = pointAt(shown.to);
      while (at >= 0 && Number.isNaN(curve.values[at])) at--;
      if (at < 0) return;
      const share = inRows ? (bases[place] + 0.45) / list.length : (Math.min(high, Math.max(low, curve.values[at])) - low) / (high - low);
      labels.push({ s: curve.key, y0: height * (1 - share), y: height * (1 - share), c: inkOf(curve.colour, ink), d: curve.dash });
    });
    labels.sort((a, b) => a.y0 - b.y0);
    const apart = 15;
    labels.forEach((label, at) => { if (at) label.y = Math.max(label.y, labels[at - 1].y + apart); });
    for (let at = labels.length - 1, floor = height; at >= 0; at--) {
      labels[at].y = Math.min(labels[at].y, floor);
      floor = labels[at].y - apart;
    }
    return {
      data: { curves: rows, importance: weights, gaps: isAll() ? [] : gapsOf(people[shown.person].seen), labels },
      signals: {
        from_s: shown.from, to_s: shown.to, low: inRows ? 0 : low, high: inRows ? list.length : high, most_important: most,
        ticks: ticksOf(width), in_minutes: shown.to >= 60, in_rows: inRows, row_edges: [...bases, list.length],
        names: list.map(curve => curve.key), colours: list.map(curve => inkOf(curve.colour, ink)), dashes: list.map(curve => curve.dash),
        shows_points: rows.length <= 60, measure: measureName() + (inRows ? `, each row from ${show(low, low % 1 ? 1 : 0)} to ${show(high, high % 1 ? 1 : 0)}` : ""),
      },
    };
  }
  function measureName() {
    const isClass = data.has_classes, of = isAll() ? ` of ${shown.of}` : "";
    if (shown.measure === "_change") return (isClass ? "Change of log p" : "Change") + of + " from baseline";
    return (isClass ? "Probability" : isAll() ? "Value" : "Value, from −1 to 1") + of + (shown.measure ? ", smoothed" : "");
  }

  // ---- The chart
  const chart = $("chart"), seekArea = $("seek"), head = $("head");
  const embed = (place, chartSpec) => vegaEmbed(place, chartSpec, { mode: "vega", renderer: "svg", actions: false, hover: false, tooltip: false, defaultStyle: false });
  const { view } = await embed($("plot"), spec);
  view.description(`Curves of ${data.classes.join(", ")} over time`);
  let size = null;
  function measureChart() {
    const isNarrow = chart.clientWidth < 560;
    const padding = { left: 44, right: isNarrow ? 92 : 124, top: 24, bottom: 40 };
    const values = isNarrow ? 220 : 300, top = values + 34;
    return { padding, width: Math.max(120, chart.clientWidth - padding.left - padding.right), values, top, height: top + (isNarrow ? 50 : 64) };
  }
  function prepare(target, { width, height, values, top, padding }, ink) {
    const drawn = draw(width, values, ink);
    target.width(width).height(height).padding(padding).signal("values_height", values).signal("importance_top", top);
    for (const [name, value] of Object.entries(drawn.signals)) target.signal(name, value);
    for (const [name, rows] of Object.entries(drawn.data)) target.data(name, rows);
  }
  function redraw() {
    size = measureChart();
    prepare(view, size);
    view.run();
    const whole = { width: size.width + size.padding.left + size.padding.right, height: size.height + size.padding.top + size.padding.bottom };
    chart.dataset.points = view.data("curves").length;
    // In percent, so that they stay in place where print scales the chart.
    Object.assign(seekArea.style, {
      left: `${100 * size.padding.left / whole.width}%`, width: `${100 * size.width / whole.width}%`,
      top: `${100 * size.padding.top / whole.height}%`, height: `${100 * size.height / whole.height}%`,
    });
    drawFaces(whole.width);
    drawHead();
  }
  let isAsked = false;
  const ask = () => { if (!isAsked) { isAsked = true; requestAnimationFrame(() => { isAsked = false; redraw(); }); } };
  new ResizeObserver(() => { if (!size || Math.abs(chart.clientWidth - size.width - size.padding.left - size.padding.right) > 1) ask(); }).observe(chart);

  // ---- The faces along the axis
  function drawFaces(whole) {
    const strips = $("strips"), focused = document.activeElement?.dataset?.face;
    strips.replaceChildren();
    for (const person of persons()) {
      const strip = document.createElement("div");
      strip.className = "faces";
      strip.setAttribute("role", "group");
      strip.setAttribute("aria-label", people.length > 1 ? `Faces of person ${person.face}` : "Faces");
      if (isAll()) strip.append(Object.assign(document.createElement("span"), { className: "quiet small", textContent: person.face }));
      let right = -Infinity;
      person.shown.forEach((face, place) => {
        if (!face.image || face.timestamp_s < shown.from || face.timestamp_s > shown.to) return;
        const x = size.padding.left + size.width * (face.timestamp_s - shown.from) / (shown.to - shown.from);
        if (x - 20 < right) return;
        right = x + 20;
        const button = document.createElement("button"), image = document.createElement("img");
        button.style.left = `${100 * x / whole}%`;
        button.dataset.face = `${person.face} ${place}`;
        button.setAttribute("aria-pressed", String(opened?.face === face));
        button.setAttribute("aria-label", `Face of ${people.length > 1 ? `person ${person.face}` : "the person"} at ${showTime(face.timestamp_s)}`);
        image.src = face.image;
        image.alt = "";
        button.append(image);
        button.addEventListener("click", () => { seek(face.timestamp_s); open(person, face); });
        strip.append(button);
        if (button.dataset.face === focused) button.focus({ preventScroll: true });
      });
      strip.hidden = !person.shown.length;
      strips.append(strip);
    }
  }
  let opened = null;
  const viridis = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  function open(person, face) {
    opened = { person, face, head: "mean", image: new Image() };
    $("face").hidden = false;
    $("face-title").textContent = `${people.length > 1 ? `Person ${person.face}` : "The face"} at ${showTime(face.timestamp_s)}`;
    $("attention").hidden = !face.attention;
    $("no-attention").hidden = Boolean(face.attention);
    const heads = $("heads"), number = face.attention?.length ?? 0;
    heads.querySelectorAll("label").forEach(label => label.remove());
    for (const name of number > 1 ? ["mean", ...Array(number).keys()] : []) {
      const label = document.createElement("label"), radio = document.createElement("input");
      label.className = "choice";
      Object.assign(radio, { type: "radio", name: "head", value: name, checked: name === "mean" });
      radio.addEventListener("change", () => { opened.head = name; drawFace(); });
      label.append(radio, name === "mean" ? "mean of all" : String(name + 1));
      heads.append(label);
    }
    heads.hidden = number < 2;
    opened.image.addEventListener("load", drawFace);
    opened.image.src = face.image;
    for (const button of document.querySelectorAll(".faces button"))
      button.setAttribute("aria-pressed", String(button.dataset.face === `${person.face} ${person.shown.indexOf(face)}`));
  }
  function drawFace() {
    const canvas = $("canvas"), pen = canvas.getContext("2d"), { face, head: which, image } = opened;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", $("face-title").textContent);
    if (!face.attention || !$("shows").checked) return;
    const maps = face.attention, rows = maps[0].length, columns = maps[0][0].length;
    const small = new OffscreenCanvas(columns, rows), inner = small.getContext("2d"), pixels = inner.createImageData(columns, rows);
    let map = which === "mean" ? maps[0].map((row, y) => row.map((_, x) => maps.reduce((sum, each) => sum + each[y][x], 0) / maps.length)) : maps[which];
    const most = Math.max(...map.flat(), 1e-9);
    map.flat().forEach((value, at) => {
      const share = 4 * value / most, place = Math.min(3, Math.floor(share)), rest = share - place;
      for (let channel = 0; channel < 3; channel++)
        pixels.data[4 * at + channel] = viridis[place][channel] + rest * (viridis[place + 1][channel] - viridis[place][channel]);
      pixels.data[4 * at + 3] = 255;
    });
    inner.putImageData(pixels, 0, 0);
    pen.globalAlpha = 0.55;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 1;
  }
  $("shows").addEventListener("change", drawFace);
  $("close").addEventListener("click", () => {
    const name = `${opened.person.face} ${opened.person.shown.indexOf(opened.face)}`;
    $("face").hidden = true;
    opened = null;
    for (const button of document.querySelectorAll(".faces button")) {
      button.setAttribute("aria-pressed", "false");
      if (button.dataset.face === name) button.focus();
    }
  });

  // ---- The time, which video and playhead share
  const video = $("video"), playable = () => video && video.readyState > 0 && video.videoWidth > 0;
  let now = start;
  function seek(at) {
    const point = pointAt(Math.min(Math.max(at, start), time[count - 1]));
    now = time[point];
    // Into the frame, because a browser may round down.
    if (playable()) video.currentTime = Math.min(now + Math.min(step / data.frames_per_point / 2, 0.02), video.duration || Infinity);
    follow();
  }
  function follow() {
    if (now > shown.to || now < shown.from) { // A zoomed chart turns its page.
      const span = shown.to - shown.from;
      shown.from = Math.max(start, Math.min(now - span * 0.1, end - span));
      shown.to = shown.from + span;
      ask();
    }
    drawHead();
  }
  function drawHead() {
    const point = pointAt(now), person = people[isAll() ? 0 : shown.person];
    head.style.left = `${100 * (now - shown.from) / (shown.to - shown.from)}%`;
    head.hidden = now < shown.from || now > shown.to;
    seekArea.setAttribute("aria-valuemin", start.toFixed(2));
    seekArea.setAttribute("aria-valuemax", time[count - 1].toFixed(2));
    seekArea.setAttribute("aria-valuenow", now.toFixed(2));
    $("now").textContent = showTime(now);
    $("state").textContent = isAll() ? shown.of : person.seen[point] === data.states.face ? (people.length > 1 ? `person ${person.face}` : "") : person.seen[point] === data.states.no_face ? "no face in this frame" : "this frame was not read";
    const [low, high] = limitsNow, spoken = [];
    for (const row of readout) {
      const value = row.curve.values?.[point] ?? NaN;
      row.value.textContent = show(value);
      const from = (Math.min(0, value) - low) / (high - low), to = (Math.max(0, value) - low) / (high - low);
      Object.assign(row.bar.style, Number.isFinite(value) ? { left: `${100 * from}%`, width: `${100 * (to - from)}%` } : { left: 0, width: 0 });
      if (Number.isFinite(value)) spoken.push(`${row.curve.key} ${show(value)}`);
    }
    const shares = persons().map(each => each.weights?.[point]);
    $("weight").textContent = shares.map((share, at) => Number.isFinite(share) ? `${isAll() ? `${people[at].face}: ` : ""}${show(share)} × average` : "–").join(", ");
    if (!video || video.paused) seekArea.setAttribute("aria-valuetext", `${showTime(now)}: ${spoken.join(", ") || $("state").textContent}`);
    drawBoxes(point);
  }
  const boxes = data.has_boxes && data.width ? people.map(person => {
    const box = document.createElement("div"), name = document.createElement("span");
    if (people.length > 1) name.textContent = person.face;
    box.append(name);
    $("boxes")?.append(box);
    return { box, name, person };
  }) : [];
  function drawBoxes(point) {
    for (const { box, name, person } of boxes) {
      const [x0, y0, x1, y1] = ["x0", "y0", "x1", "y1"].map(edge => person.columns[edge][point]);
      box.hidden = !Number.isFinite(x0) || $("screen").hidden;
      box.classList.toggle("main", persons().includes(person));
      Object.assign(box.style, {
        left: `${100 * x0 / data.width}%`, top: `${100 * y0 / data.height}%`,
        width: `${100 * (x1 - x0) / data.width}%`, height: `${100 * (y1 - y0) / data.height}%`,
      });
      name.hidden = people.length < 2;
    }
  }
  if (video) {
    const take = () => { now = Math.min(Math.max(video.currentTime, start), end); follow(); };
    const loop = () => { take(); if (!video.paused && !video.ended) requestAnimationFrame(loop); };
    video.addEventListener("play", loop);
    for (const name of ["seeked", "timeupdate", "pause"]) video.addEventListener(name, () => { if (video.paused) return; take(); });
    // A user of the video's own controls while it is paused.
    video.addEventListener("seeked", () => { if (Math.abs(video.currentTime - now) > step) take(); });
    const give = () => { $("unplayable").hidden = false; $("screen").hidden = true; };
    video.addEventListener("error", give);
    video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) give(); else if (now > start) seek(now); });
    if (video.error || (video.readyState > 0 && !video.videoWidth)) give();
  }

  // ---- The readout, which is the legend too
  let readout = [], limitsNow = [0, 1];
  function listCurves() {
    limitsNow = limits();
    readout = curves().filter(curve => curve.values).map(curve => {
      const label = document.createElement("label"), box = document.createElement("input"), bar = document.createElement("span"), fill = document.createElement("i");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const name = document.createElement("span"), value = document.createElement("span");
      Object.assign(box, { type: "checkbox", checked: !shown.hidden.has(curve.key) });
      label.classList.toggle("off", !box.checked);
      line.setAttribute("width", 34);
      line.setAttribute("height", 8);
      line.setAttribute("class", "line");
      line.setAttribute("aria-hidden", "true");
      for (const [key, set] of Object.entries({ d: "M1 4H33", stroke: curve.colour, "stroke-width": 2.5, "stroke-dasharray": curve.dash.join(" ") })) path.setAttribute(key, set);
      line.append(path);
      name.textContent = curve.key;
      bar.className = "bar";
      bar.style.setProperty("--c", curve.colour);
      bar.append(fill);
      value.className = "value";
      label.append(box, line, name, bar, value);
      box.addEventListener("change", () => {
        shown.hidden[box.checked ? "delete" : "add"](curve.key);
        label.classList.toggle("off", !box.checked);
        ask();
      });
      return { curve, label, value, bar: fill };
    });
    $("rows").replaceChildren(...readout.map(row => row.label));
  }
  function change() { listCurves(); ask(); }

  // ---- Pointer and keys
  let isDragged = false;
  const timeOf = event => {
    const box = seekArea.getBoundingClientRect();
    return shown.from + (shown.to - shown.from) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  seekArea.addEventListener("pointerdown", event => {
    if (event.button) return;
    isDragged = true;
    seekArea.setPointerCapture(event.pointerId);
    seekArea.focus({ preventScroll: true });
    seek(timeOf(event));
    event.preventDefault();
  });
  seekArea.addEventListener("pointermove", event => { if (isDragged) seek(timeOf(event)); });
  for (const name of ["pointerup", "pointercancel"]) seekArea.addEventListener(name, () => { isDragged = false; });
  function zoom(factor) {
    const span = Math.min(end - start, Math.max((shown.to - shown.from) * factor, Math.min(20 * step, end - start)));
    const share = (now - shown.from) / (shown.to - shown.from);
    shown.from = Math.max(start, Math.min(now - span * share, end - span));
    shown.to = shown.from + span;
    ask();
  }
  const whole = () => { shown.from = start; shown.to = end; ask(); };
  seekArea.addEventListener("keydown", event => {
    const point = pointAt(now), far = end - start;
    const moves = {
      ArrowLeft: () => event.shiftKey ? seek(now - 1) : seek(time[Math.max(0, point - 1)]),
      ArrowRight: () => event.shiftKey ? seek(now + 1) : seek(time[Math.min(count - 1, point + 1)]),
      PageDown: () => seek(now - Math.min(10, far / 4)), PageUp: () => seek(now + Math.min(10, far / 4)),
      Home: () => seek(start), End: () => seek(end),
      " ": () => { if (playable()) video[video.paused ? "play" : "pause"](); },
      "+": () => zoom(.5), "=": () => zoom(.5), "-": () => zoom(2), 0: whole,
    };
    moves.ArrowDown = moves.ArrowLeft;
    moves.ArrowUp = moves.ArrowRight;
    if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  $("closer").addEventListener("click", () => zoom(.5));
  $("wider").addEventListener("click", () => zoom(2));
  $("whole").addEventListener("click", whole);
  for (const radio of document.querySelectorAll("input[name=person]"))
    radio.addEventListener("change", () => {
      shown.person = radio.value === "all" ? "all" : +radio.value;
      shown.hidden.clear();
      $("of-all").hidden = !isAll();
      if ($("layouts")) $("layouts").hidden = isAll();
      change();
    });
  $("class")?.addEventListener("change", event => { shown.of = event.target.value; change(); });
  for (const radio of document.querySelectorAll("input[name=measure]"))
    radio.addEventListener("change", () => { shown.measure = radio.value; change(); });

  for (const radio of document.querySelectorAll("input[name=layout]"))
    radio.addEventListener("change", () => { shown.rows = radio.value === "each"; ask(); });

  // ---- Files
  const fileName = end => `${data.name.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+/, "") || "video"}${end}`;
  function save(url, name) {
    const link = Object.assign(document.createElement("a"), { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  const saveText = (text, kind, name) => save(URL.createObjectURL(new Blob([text], { type: kind })), name);
  // The figure is drawn once more, black on white, with the faces.
  async function exported() {
    const sizes = { padding: { left: 52, right: 134, top: 68, bottom: 52 + 50 * persons().length }, width: Math.max(640, size.width), values: 300, top: 334, height: 398 };
    const ink = "#1b1f24", text = JSON.stringify({ ...spec, background: "white" }).replaceAll("currentColor", ink);
    const { view: figure } = await embed(document.createElement("div"), JSON.parse(text));
    prepare(figure, sizes, ink);
    figure.signal("heading", data.name + (people.length > 1 && !isAll() ? `, person ${people[shown.person].face}` : ""));
    const faces = [];
    persons().forEach((person, row) => {
      let right = -Infinity;
      for (const { timestamp_s: t, image } of person.shown) {
        const x = sizes.width * (t - shown.from) / (shown.to - shown.from);
        if (!image || t < shown.from || t > shown.to || x - 23 < right) continue;
        right = x + 23;
        faces.push({ t, image, row });
      }
    });
    figure.data("faces", faces);
    await figure.runAsync();
    return figure;
  }
  $("svg").addEventListener("click", async () => saveText(await (await exported()).toSVG(), "image/svg+xml", fileName(".svg")));
  $("png").addEventListener("click", async () => save(await (await exported()).toImageURL("png", 2), fileName(".png")));
  $("csv").addEventListener("click", () => {
    const quote = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const number = value => Number.isFinite(value) ? String(+value.toPrecision(6)) : "";
    const list = visible(), lines = [["time_s", ...persons().flatMap(person => ["has_face", "importance"].map(name => isAll() ? `${name} of person ${person.face}` : name)),
      ...list.map(curve => isAll() ? `${shown.of + shown.measure} of ${curve.key}` : curve.key + shown.measure)].map(quote).join(",")];
    for (let at = 0; at < count; at++) {
      if (time[at] < shown.from - 1e-6 || time[at] > shown.to + 1e-6) continue;
      const seen = persons().flatMap(({ seen, columns }) => [seen[at] ? String(+(seen[at] === data.states.face)) : "", number(columns.importance?.[at])]);
      lines.push([time[at].toFixed(3), ...seen, ...list.map(curve => number(curve.values[at]))].join(","));
    }
    saveText(`${lines.join("\n")}\n`, "text/csv", fileName(".csv"));
  });

  // ---- Paper: as wide as A4 without its margins
  addEventListener("beforeprint", () => { chart.style.width = "680px"; $("strips").style.width = "680px"; redraw(); });
  addEventListener("afterprint", () => { chart.style.width = $("strips").style.width = ""; redraw(); });

  // ---- From a link such as #t=3.2&person=1
  function read() {
    const asked = new URLSearchParams(location.hash.slice(1)), place = people.findIndex(person => String(person.face) === asked.get("person"));
    if (place >= 0 && people.length > 1) document.querySelector(`input[name=person][value="${place}"]`).click();
    if (Number.isFinite(parseFloat(asked.get("t")))) seek(parseFloat(asked.get("t")));
  }
  // Many long curves on top of each other cannot be read.
  const each = document.querySelector("input[name=layout][value=each]");
  if (each && count > 2 * chart.clientWidth) { each.checked = true; shown.rows = true; }
  listCurves();
  redraw();
  read();
  addEventListener("hashchange", read);
})();
