// What charts reckon: how high an axis goes, and where a line has gaps.

const STEPS = [1, 2, 4, 6, 8, 10];

/** A round number at or above a value, at least 1, that can be halved. */
export function niceTop(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.find((step) => step * power >= value) * power;
}

/** The sum of a point's values. */
export function stacked(values) {
  return values.reduce((sum, value) => sum + (value ?? 0), 0);
}

/** Parts of a line without gaps: lists of `{ place, value }`. */
export function runsOf(values) {
  const runs = [];
  let run = null;
  values.forEach((value, place) => {
    if (value === null || value === undefined) run = null;
    else if (run) run.push({ place, value });
    else {
      run = [{ place, value }];
      runs.push(run);
    }
  });
  return runs;
}
