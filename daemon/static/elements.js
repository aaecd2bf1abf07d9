// Makes elements. Text is always set as text: names and reasons came in with records, from strangers.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// Replaces the content of an element, unless it is the same already: what somebody selects or reads
// aloud is not torn away every two seconds.
export function show(id, ...children) {
  const place = document.getElementById(id);
  const fresh = element("div", {}, ...children);
  if (place.innerHTML !== fresh.innerHTML) place.replaceChildren(...fresh.childNodes);
}
