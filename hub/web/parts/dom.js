// Elements out of words. Text only ever becomes text: there is no way in here for markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children.
 * `on` holds listeners, `data` the data attributes; a value of `false`, `null` or `undefined` leaves an attribute out.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same, of an SVG picture. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Write a text, if it is another one. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A name that somebody else chose: its writing direction stays its own. */
export function named(name) {
  return h("bdi", { class: "name" }, name);
}

function filled(element, attributes, children) {
  const { on = {}, data = {}, ...rest } = attributes;
  for (const [name, value] of Object.entries(rest)) {
    if (value === false || value === null || value === undefined) continue;
    check(name, value);
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, value] of Object.entries(data)) element.dataset[name] = String(value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(
    ...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== ""),
  );
  return element;
}

function check(name, value) {
  if (/^(on|style$|srcdoc$)/i.test(name)) throw new TypeError(`no attribute ${name} here`);
  if (name === "href" && !/^(#|\/(?!\/))/.test(value)) throw new TypeError("links lead to this page only");
}
