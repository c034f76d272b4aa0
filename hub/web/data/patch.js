// JSON merge patches (RFC 7396) without changing what they are applied to: what a patch doesn't touch stays the same
// object, so whoever draws can tell by `===` that there is nothing to do. Objects have no prototype: a node may be
// called `__proto__`.

const NOTHING = Object.freeze(Object.create(null));

/** The target after the patch; the target itself where nothing changes. */
export function merged(target, patch) {
  if (!isObject(patch)) return patch;
  const before = isObject(target) ? target : NOTHING;
  let after = isObject(target) ? target : null;
  const writable = () => {
    if (after === null || after === target) after = Object.assign(Object.create(null), before);
    return after;
  };
  for (const [name, change] of Object.entries(patch)) {
    const former = Object.hasOwn(before, name) ? before[name] : undefined;
    if (change === null) {
      if (former !== undefined) delete writable()[name];
      continue;
    }
    const value = merged(former, change);
    if (value !== former) writable()[name] = value;
  }
  return after ?? writable();
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
