'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const labels = ['blurry', ...data.methods, 'sharp'];  // of an image's versions
const element = id => document.getElementById(id);
const list = element('images');
const cards = [];  // of {image, node}, in the order of the data
const view = {level: 0, x: 0.5, y: 0.5};  // the zoom is 2 ** level; x and y are the center as fractions of an image

function option(select, text, value) {
  select.append(new Option(text, value));
}

function clamp(value, least, greatest) {
  return Math.min(greatest, Math.max(least, value));
}

// The table

function buildTable() {
  const head = document.querySelector('#table thead tr');
  data.table.columns.forEach((heading, index) => {
    const cell = document.createElement('th');
    const button = document.createElement('button');
    cell.scope = 'col';
    button.type = 'button';
    button.textContent = heading;
    button.addEventListener('click', () => sortTable(index));
    cell.append(button);
    head.append(cell);
  });
  const body = document.querySelector('#table tbody');
  for (const row of data.table.rows) {
    const line = body.insertRow();
    line.values = row.map(([text, value]) => value === null ? text : Number(value));
    for (const [text] of row) line.insertCell().textContent = text;
  }
}

function compareValues(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return (a > b) - (a < b) || isNaN(a) - isNaN(b);
  return typeof a === typeof b ? a.localeCompare(b, undefined, {numeric: true}) : typeof a === 'number' ? -1 : 1;
}

function sortTable(index) {
  const heads = [...document.querySelectorAll('#table th')];
  const direction = heads[index].getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
  for (const head of heads) head.removeAttribute('aria-sort');
  heads[index].setAttribute('aria-sort', direction);
  const sign = direction === 'ascending' ? 1 : -1;
  const body = document.querySelector('#table tbody');
  body.append(...[...body.rows].sort((a, b) => sign * compareValues(a.values[index], b.values[index])));
}

// The images

function showNumber(value) {
  const number = Number(value);
  return isFinite(number) ? number.toFixed(4) : isNaN(number) ? 'not a number' : number > 0 ? '∞' : '−∞';
}

function describeScores(image) {
  return data.methods.map((method, index) => {
    const scores = image.scores[index].map((value, at) => value === null ? null : `${data.metrics[at].name} ${showNumber(value)}`);
    const text = scores.filter(each => each !== null).join(', ');
    return data.methods.length > 1 && text ? `${method}: ${text}` : text;
  }).filter(Boolean).join('\n');
}

function buildCards() {
  const template = element('card').content;
  for (const image of data.images) {
    const node = template.cloneNode(true).firstElementChild;
    const frame = node.querySelector('.frame');
    const split = node.querySelector('.split');
    node.querySelector('h2').textContent = image.name;
    node.querySelector('.scores').textContent = describeScores(image);
    frame.style.aspectRatio = `${image.width} / ${image.height}`;
    frame.setAttribute('aria-label', `${image.name}. Plus and minus zoom, arrow keys move.`);
    split.setAttribute('aria-label', `Divider of ${image.name}`);
    split.addEventListener('input', () => node.style.setProperty('--split', `${split.value}%`));
    const thumbnail = node.querySelector('.thumbnail');
    if (image.thumbnail) thumbnail.src = image.thumbnail;
    else thumbnail.hidden = true;
    follow(frame, split);
    const card = {image, node, near: false};
    node.card = card;
    cards.push(card);
  }
}

// Full images are loaded near the visible part of the page only, since a browser cannot hold thousands of them.
const observer = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    target.card.near = isIntersecting;
    fill(target.card);
  }
}, {rootMargin: '600px 0px'});

function fill(card) {
  for (const side of ['left', 'right']) {
    const choice = Number(element(side).value);
    const path = card.image.versions[choice];
    const image = card.node.querySelector(`.pane.${side} img`);
    card.node.querySelector(`.label.${side}`).textContent = labels[choice] + (path ? '' : ': none');
    image.alt = `${card.image.name}, ${labels[choice]}`;
    image.hidden = !(card.near && path);
    if (image.hidden) image.removeAttribute('src');
    else if (image.getAttribute('src') !== path) image.src = path;
  }
}

function sortCards() {
  const [method, metric] = element('order').value.split(' ').map(Number);
  let sorted = cards;
  if (element('order').value === 'name') {
    sorted = [...cards].sort((a, b) => a.image.name.localeCompare(b.image.name, undefined, {numeric: true}));
  } else {
    const sign = data.metrics[metric].better === 'lower' ? -1 : 1;
    const badness = card => {  // NaN is the worst score, and images without scores come last
      const value = card.image.scores[method][metric];
      return value === null ? Infinity : isNaN(value) ? -Infinity : sign * Number(value);
    };
    const keys = new Map(cards.map(card => [card, badness(card)]));
    sorted = [...cards].sort((a, b) => keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : 0);
  }
  list.append(...sorted.map(card => card.node));
}

// Zoom and position, which all images share

function applyView() {
  const zoom = 2 ** view.level;
  view.x = clamp(view.x, 0.5 / zoom, 1 - 0.5 / zoom);
  view.y = clamp(view.y, 0.5 / zoom, 1 - 0.5 / zoom);
  list.style.setProperty('--zoom', zoom);
  list.style.setProperty('--x', `${100 * (0.5 - zoom * view.x)}%`);
  list.style.setProperty('--y', `${100 * (0.5 - zoom * view.y)}%`);
  list.classList.toggle('zoomed', zoom > 1);
  list.classList.toggle('magnified', zoom >= 4);
  element('zoom').value = view.level;
  element('factor').textContent = `${Number(zoom.toFixed(1))}×`;
}

function zoomAt(level, frame, event) {
  const box = frame.getBoundingClientRect();
  const [across, down] = [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
  const change = 2 ** -view.level - 2 ** -clamp(level, 0, 5);
  view.x += across * change;
  view.y += down * change;
  view.level = clamp(level, 0, 5);
  applyView();
}

function follow(frame, split) {
  let last = null;
  frame.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    last = event;
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener('pointermove', event => {
    if (!last) return;
    const box = frame.getBoundingClientRect();
    if (view.level === 0) {
      split.value = 100 * (event.clientX - box.left) / box.width;
      split.dispatchEvent(new Event('input'));
    } else {
      view.x -= (event.clientX - last.clientX) / box.width / 2 ** view.level;
      view.y -= (event.clientY - last.clientY) / box.height / 2 ** view.level;
      applyView();
    }
    last = event;
  });
  for (const end of ['pointerup', 'pointercancel']) frame.addEventListener(end, () => { last = null; });
  frame.addEventListener('dblclick', event => zoomAt(view.level ? 0 : 2, frame, event));
  frame.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomAt(view.level - event.deltaY / 250, frame, event);
  }, {passive: false});
  frame.addEventListener('keydown', event => {
    const step = 0.1 / 2 ** view.level;
    const moves = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]};
    const levels = {'+': view.level + 0.5, '=': view.level + 0.5, '-': view.level - 0.5, 0: 0};
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves && view.level) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
    } else if (event.key in levels) {
      view.level = clamp(levels[event.key], 0, 5);
    } else {
      return;
    }
    event.preventDefault();
    applyView();
  });
}

// Controls

function buildControls() {
  for (const side of ['left', 'right']) {
    labels.forEach((label, index) => {
      if (data.images.some(image => image.versions[index])) option(element(side), label, index);
    });
    element(side).addEventListener('change', () => cards.forEach(fill));
  }
  element('left').value = 0;
  element('right').value = 1;
  data.methods.forEach((method, index) => data.metrics.forEach((metric, at) => {
    const name = data.methods.length > 1 ? `${method} ${metric.name}` : metric.name;
    if (data.images.some(image => image.scores[index][at] !== null)) option(element('order'), `${name}, worst first`, `${index} ${at}`);
  }));
  option(element('order'), 'name', 'name');
  element('order').addEventListener('change', sortCards);
  element('zoom').addEventListener('input', () => {
    view.level = Number(element('zoom').value);
    applyView();
  });
  element('reset').addEventListener('click', () => {
    Object.assign(view, {level: 0, x: 0.5, y: 0.5});
    for (const split of document.querySelectorAll('.split')) {
      split.value = 50;
      split.dispatchEvent(new Event('input'));
    }
    applyView();
  });
  element('controls').addEventListener('submit', event => event.preventDefault());
}

for (const note of data.notes) {
  const paragraph = document.createElement('p');
  paragraph.textContent = note;
  element('notes').append(paragraph);
}
buildTable();
buildCards();
buildControls();
sortCards();
applyView();
for (const {node} of cards) observer.observe(node);
